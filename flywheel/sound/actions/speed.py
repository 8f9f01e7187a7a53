"""Faster or slower, as a tape is."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source
from flywheel.sound.actions._warp import played


def _edit(source: Source, *, rate: float, seconds: float) -> Iterator[Samples]:
    """The sound played ``rate`` times as fast, pitch included, and moved by ``seconds``, later where positive.

    The length stays: what plays beyond it is left out, and what is missing at the end is silence. Sound of a film that
    was speeded up begins off in most clips, so that speed alone could not mend it.
    """
    late = seconds * source.rate_hz
    return (played(source, start, stop, speed=rate, late=late) for start, stop in source.spans())


ACTION = Action(
    family="coordination",
    does="plays the sound faster (above 1) or slower, pitch included, and moves it in time",
    parameters={"rate": Range(0.8, 1.25, 1.0), "seconds": Range(-2.0, 2.0, 0.0, "s")},
    edit=_edit,
)
