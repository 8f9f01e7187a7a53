"""Is one model better than another on the same items.

An exact test, its level over many looks, and how many items it needs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from flywheel.core.types import Estimate
from flywheel.metrics.intervals import mean_estimate

#: Up to so many items all sign patterns are gone through; above, so many are drawn.
_RESAMPLES = 9_999


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """The result of a test of paired differences.

    ``difference`` has the 95 % bootstrap interval. ``p_better`` and ``p_worse`` are one-sided; so is ``p_not_worse``,
    which holds that ``after`` is worse by the margin or more (1 where no margin was asked for). ``spread`` is the
    standard deviation of the differences (of groups, where items come in groups).
    """

    difference: Estimate
    p_better: float
    p_worse: float
    spread: float
    p_not_worse: float = 1.0


def paired_test(
    after: Sequence[float],
    before: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    margin: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Test of ``after - before`` item by item, by sign flips of the differences (Fisher 1935).

    Exact where there are few patterns of signs; else 9,999 are drawn, and the observed one counted among them, so that
    p is never below its truth.

    Items of one group (clips of one video) are not independent: their differences are averaged first, and signs flip by
    group. With a ``margin`` the differences plus the margin are tested too. Raises ValueError where the lengths differ.
    """
    if len(after) != len(before):
        raise ValueError(f"paired_test: need equally many items, got {len(after)} and {len(before)}")
    difference = grouped(np.subtract(after, before, dtype=np.float64), groups)
    estimate = mean_estimate(difference, resamples=resamples, seed=seed)
    p_better, p_worse = _one_sided(difference, seed)
    return PairedTest(
        difference=estimate,
        p_better=p_better,
        p_worse=p_worse,
        spread=float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0,
        p_not_worse=1.0 if margin is None else _one_sided(difference + margin, seed)[0],
    )


def _one_sided(difference: Float[np.ndarray, " groups"], seed: int) -> tuple[float, float]:
    """The p-values of a mean above and below 0, by sign flips."""
    # An item on which both say the same flips to itself; without it the patterns are fewer and the p-values the same.
    moved = difference[difference != 0]
    if not len(moved):
        return 1.0, 1.0
    if len(moved) == 1:
        # scipy wants two.
        null = np.array([moved[0], -moved[0]])
    else:
        flips = scipy.stats.permutation_test(
            (moved, np.zeros_like(moved)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=_RESAMPLES,
            alternative="greater",
            rng=np.random.default_rng(seed),
            batch=500,
        )
        null = np.asarray(flips.null_distribution)
    total = float(moved.mean())
    extra = 0 if len(null) == 2 ** len(moved) else 1
    tolerance = 1e-12 * max(1.0, abs(total))
    above = (float((null >= total - tolerance).sum()) + extra) / (len(null) + extra)
    below = (float((null <= total + tolerance).sum()) + extra) / (len(null) + extra)
    return above, below


def grouped(values: Float[np.ndarray, " items"], groups: Sequence[Hashable] | None) -> Float[np.ndarray, " groups"]:
    """The mean of each group, in the order in which groups first come; the values themselves without groups."""
    if groups is None:
        return values
    places: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        places.setdefault(group, []).append(index)
    return np.array([values[rows].mean() for rows in places.values()], dtype=np.float64)


def level_of_look(alpha: float, look: int) -> float:
    """The level of the ``look``-th test (from 1 on) against the same champion: alpha / (look (look + 1)).

    The levels of all looks add up to alpha. So, however many candidates come, the chance that one no better ever takes
    a champion's place is at most alpha (Bonferroni over looks; it asks nothing of how they depend on each other). The
    first look has alpha / 2.
    """
    if look < 1:
        raise ValueError(f"level_of_look: looks count from 1 on, got {look}")
    return alpha / (look * (look + 1))


def spread_at_most(spread: float, count: int) -> float:
    """The 80 % upper bound of the true standard deviation, where ``count`` normal values have ``spread``.

    Planning with the value itself would fall short in half of all cases (Browne 1995).
    """
    return spread * math.sqrt((count - 1) / float(scipy.stats.chi2.ppf(0.2, count - 1))) if count > 1 else spread


def items_needed(effect: float, spread: float, level: float, power: float) -> int:
    """The least number of items with which a one-sided paired test finds a mean difference ``effect``.

    ``level`` is the test's, ``power`` the chance to find it, ``spread`` the standard deviation of single differences.
    By the noncentral t, which sign flips of a mean approach. Raises ValueError for an effect or spread of 0 or below.
    """
    if effect <= 0 or spread <= 0:
        raise ValueError(f"items_needed: need an effect and a spread above 0, got {effect} and {spread}")

    def reached(n: int) -> bool:
        shift = effect * math.sqrt(n) / spread
        # Far out the noncentral t runs out of digits, and the power is 1.
        return shift > 30 or bool(scipy.stats.nct.sf(scipy.stats.t.isf(level, n - 1), n - 1, shift) >= power)

    z = float(scipy.stats.norm.isf(level) + scipy.stats.norm.isf(1 - power))
    # The normal's answer is a few below; from there up and down to the least.
    n = max(2, math.ceil((z * spread / effect) ** 2))
    while not reached(n):
        n += 1
    while n > 2 and reached(n - 1):
        n -= 1
    return n
