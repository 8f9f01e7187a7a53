"""Agreement of people on the same things, and the amount of their changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import scipy

from flywheel.core.types import Cue
from flywheel.metrics.text import token_f1, words

Value = TypeVar("Value")

#: Pairs of values that the disagreement by chance is measured on; more are drawn from.
_MOST_PAIRS = 20_000


def text_distance(a: str | None, b: str | None) -> float:
    """One minus the words' F1, in [0, 1]; None (a rejected text) has distance 1 from every text."""
    if a is None or b is None:
        return float(a is not b)
    return 1.0 - token_f1(a, b)


def krippendorff_alpha(
    units: Mapping[str, Sequence[Value]], distance: Callable[[Value, Value], float], *, seed: int = 0
) -> float:
    """Krippendorff's alpha, 1 - D_o / D_e (Krippendorff 2011).

    1 is agreement, 0 what chance gives, below 0 is worse than chance. nan where no two people looked at the same thing,
    or all values are one.

    ``units`` are the values that different people gave each thing; things with one value do not count. ``distance``
    takes the place of the squared difference function. D_e is over all pairs of values of all units, or, of many, over
    20,000 pairs drawn with ``seed``.
    """
    paired = [list(values) for values in units.values() if len(values) > 1]
    pool = [value for values in paired for value in values]
    count = len(pool)
    if count < 2:
        return float("nan")
    observed = 0.0
    for values in paired:
        apart = sum(distance(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
        observed += apart / (len(values) - 1)
    observed /= count
    if count * (count - 1) <= _MOST_PAIRS:
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(0, count, _MOST_PAIRS)
        # A second value that is never the first: any of the others, all alike.
        second = (first + rng.integers(1, count, _MOST_PAIRS)) % count
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    expected = sum(distance(pool[i], pool[j]) for i, j in pairs) / len(pairs)
    return 1.0 - observed / expected if expected else float("nan")


def boundary_iou(a: Sequence[Cue], b: Sequence[Cue]) -> float:
    """Mean intersection over union (in time) of cues that are matched one to one for the best sum.

    In [0, 1]; a cue without a partner counts 0, and 1 is given where both have none. Ours: detection's IoU, matched as
    in Kuhn 1955.
    """
    if not a or not b:
        return float(not a and not b)
    overlap = np.array([[max(0.0, min(x.end_s, y.end_s) - max(x.start_s, y.start_s)) for y in b] for x in a])
    union = np.array([[max(x.end_s, y.end_s) - min(x.start_s, y.start_s) for y in b] for x in a])
    iou = np.where(overlap > 0, overlap / np.maximum(union, 1e-9), 0.0)
    rows, columns = scipy.optimize.linear_sum_assignment(-iou)
    return float(iou[rows, columns].sum() / max(len(a), len(b)))


def edit_rate(before: str, after: str) -> float:
    """Words inserted, deleted or replaced, per word of the result.

    The translation edit rate without shifts (Snover et al. 2006); above 1 where more was deleted than is left.
    """
    old, new = words(before), words(after)
    row = list(range(len(new) + 1))
    for i, word in enumerate(old, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(new, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1] / max(1, len(new))
