"""How much nearer to people's texts a text is that they saw first: what an edit owes to the text it began with."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from flywheel.core.types import Estimate
from flywheel.metrics import mean_estimate
from flywheel.metrics.paired import grouped

#: Videos of either kind below which nothing is said.
_LEAST = 5


def head_start(shown: Iterable[tuple[str, float, bool]], *, resamples: int = 2000) -> Estimate | None:
    """Mean word F1 of the shown text with people's where they edited it, less that where they wrote blind.

    ``shown`` is video, F1 and whether it was blind, for each anchor. Which anchors are blind is drawn by a hash, so the
    difference is what showing the text does. None where either kind has fewer than five videos.
    """
    rows = list(shown)
    sides = []
    for is_blind in (False, True):
        of = [(video, f1) for video, f1, blind in rows if blind == is_blind]
        if len({video for video, _ in of}) < _LEAST:
            return None
        values = np.array([f1 for _, f1 in of], dtype=np.float64)
        sides.append(mean_estimate(grouped(values, [video for video, _ in of]), resamples=resamples))
    value = sides[0].value - sides[1].value
    # Half-widths of independent means add up in squares.
    error = math.hypot(*((side.high - side.low) / 2 for side in sides))
    return Estimate(value=value, low=value - error, high=value + error, n=sides[0].n + sides[1].n)
