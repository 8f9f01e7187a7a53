"""Bootstrap intervals of means, medians and paired differences, and of means over clusters (a video's questions)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy
from jaxtyping import Real

from flywheel.core.types import Estimate

#: Values that are drawn at a time, whatever the sample's size: 4 MiB of them, and as much of indices.
_DRAWN = 1 << 19


def mean_estimate(
    values: Sequence[float] | Real[np.ndarray, " N"], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """The mean of N values with its percentile bootstrap interval; nan where there are no values."""
    return _estimate(values, np.mean, resamples, seed, level)


def median_estimate(
    values: Sequence[float] | Real[np.ndarray, " N"], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """As :func:`mean_estimate`, of the median."""
    return _estimate(values, np.median, resamples, seed, level)


def _estimate(
    values: Sequence[float] | Real[np.ndarray, " N"],
    statistic: Callable[..., Any],
    resamples: int,
    seed: int,
    level: float,
) -> Estimate:
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    value = float(statistic(array))
    if len(array) < 2 or np.ptp(array) == 0:
        return Estimate(value=value, low=value, high=value, n=len(array))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        interval = scipy.stats.bootstrap(
            (array,),
            statistic,
            n_resamples=resamples,
            confidence_level=level,
            method="percentile",
            batch=max(1, _DRAWN // len(array)),
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Estimate(value=value, low=float(interval.low), high=float(interval.high), n=len(array))


def clustered_estimate(
    values: Sequence[float] | Real[np.ndarray, " N"],
    clusters: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """The mean of N values with the percentile interval of drawing whole clusters anew; nan where there are none.

    Values of a cluster are alike: drawing them one by one would make the interval too narrow. The bounds equal the
    value where there is one cluster. Raises ValueError where values and clusters differ in length.
    """
    if len(values) != len(clusters):
        raise ValueError(f"clustered_estimate: {len(values)} values in {len(clusters)} clusters")
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    _, of = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(of, weights=array), np.bincount(of)
    mean = float(array.mean())
    if len(sums) < 2 or np.ptp(array) == 0:
        return Estimate(value=mean, low=mean, high=mean, n=len(array))
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    step = max(1, _DRAWN // len(sums))
    for start in range(0, resamples, step):
        drawn = rng.integers(len(sums), size=(min(step, resamples - start), len(sums)))
        means[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=mean, low=float(low), high=float(high), n=len(array))


def paired_difference(
    after: Sequence[float], before: Sequence[float], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Mean of ``after - before``, item by item, with its interval. Raises ValueError where they differ in length."""
    if len(after) != len(before):
        raise ValueError(f"paired_difference: need equally many items, got {len(after)} and {len(before)}")
    return mean_estimate(
        np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64),
        resamples=resamples,
        seed=seed,
        level=level,
    )
