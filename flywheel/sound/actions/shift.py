"""Earlier or later, to the sample."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source


def _edit(source: Source, *, seconds: float) -> Iterator[Samples]:
    """The sound moved by the nearest whole number of samples, later where positive; silence where none is left."""
    by = round(seconds * source.rate_hz)
    return (source.take(start - by, stop - by) for start, stop in source.spans())


ACTION = Action(
    family="coordination",
    does="moves the whole sound in time: later where positive, earlier where negative",
    parameters={"seconds": Range(-2.0, 2.0, 0.0, "s")},
    edit=_edit,
    ours=True,
)
