"""Louder or softer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source


def _edit(source: Source, *, db: float) -> Iterator[Samples]:
    """Amplitude times $10^{db / 20}$; what passes full scale then gives way (:func:`limited`)."""
    factor = np.float32(10 ** (db / 20))
    return (source.take(start, stop) * factor for start, stop in source.spans())


ACTION = Action(
    family="coordination",
    does="makes the sound louder or softer",
    parameters={"db": Range(-20.0, 20.0, 0.0, "dB")},
    edit=_edit,
    by_picture=False,
)
