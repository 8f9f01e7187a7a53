"""Spectral subtraction (Boll 1979; over-subtraction and floor after Berouti et al. 1979)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source
from flywheel.sound.actions._spectral import Spectrum, filtered


def _edit(source: Source, *, over: float, floor: float) -> Iterator[Samples]:
    r"""Power becomes $\max(P - \alpha N, \beta N)$, never more than it was; ``over`` is alpha, ``floor`` beta."""

    def gains(power: Spectrum, noise: Spectrum) -> Spectrum:
        left = np.maximum(power - np.float32(over) * noise, np.float32(floor) * noise)
        amplitude: Spectrum = np.sqrt(np.minimum(left / np.maximum(power, 1e-20), 1))
        return amplitude

    return filtered(source, gains)


ACTION = Action(
    family="filter",
    does="takes a steady noise's estimated power away from each moment's",
    parameters={"over": Range(1.0, 4.0, 2.0), "floor": Range(0.01, 0.1, 0.02)},
    edit=_edit,
)
