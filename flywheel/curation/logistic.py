"""A score from several columns, and what it says of which of two heaps a pair comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.curation.curve import rising

#: Strength of the pull of coefficients to 0, in pairs; so that columns that say nothing keep out.
_RIDGE = 1.0
_STEPS, _CLOSE = 50, 1e-6
#: What the steps' own slope is, of which policies need some.
_RISE = 0.002


@dataclass(frozen=True, kw_only=True)
class Score:
    """A logistic regression on standardized columns, whose outcome a curve makes a probability.

    A column that is nan counts as its mean, and has a coefficient of its own for being so. ``knots`` and ``values``:
    the increasing function (:func:`flywheel.curation.curve.rising`), as points between which it is straight.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    knots: NDArray[np.float64]
    values: NDArray[np.float64]

    def of(self, features_NK: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability (n,) that a pair is of the first heap, where both are equally large."""
        line = _design(features_NK, self.mean, self.scale) @ self.coefficients
        steps = np.interp(line, self.knots, self.values)
        # Within a step too the better comes first: shares of clips are cut there.
        return np.asarray((1 - _RISE) * steps + _RISE * scipy.special.expit(line))


def fit_score(
    features_NK: NDArray[np.float32],
    first: NDArray[np.bool_],
    counted: NDArray[np.bool_] | None = None,
    matched: NDArray[np.float64] | None = None,
) -> Score:
    """The score that tells pairs of the first heap from the others, both heaps weighing the same.

    All pairs decide on the coefficients; the probability is that among those ``counted`` (N,). ``matched`` (N,): how
    likely each pair of the first heap is a matching one, and counts as one for the coefficients; 1 if left out.
    """
    counted = np.ones(len(first), dtype=bool) if counted is None else counted
    with np.errstate(invalid="ignore"):
        known = np.nan_to_num(features_NK.astype(np.float64))
        counts = np.maximum((~np.isnan(features_NK)).sum(axis=0), 1)
        mean = known.sum(axis=0) / counts
        scale = np.sqrt(np.maximum((known**2).sum(axis=0) / counts - mean**2, 1e-12))
    design, target = _design(features_NK, mean, scale), first.astype(np.float64)
    wanted = target if matched is None else np.where(first, matched, 0.0)
    coefficients = _newton(design, wanted, _even(first))
    line = (design @ coefficients)[counted]
    knots, values = rising(line, target[counted], _even(first[counted]))
    return Score(mean=mean, scale=scale, coefficients=coefficients, knots=knots, values=values)


def _even(first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights (N,) with which both heaps are half of all pairs."""
    return np.where(first, 0.5 / max(1, first.sum()), 0.5 / max(1, (~first).sum())) * len(first)


def _design(features_NK: NDArray[np.float32], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[Any]:
    missing = np.isnan(features_NK)
    standard = np.where(missing, 0.0, (features_NK - mean) / scale).clip(-8, 8)
    return np.column_stack([np.ones(len(features_NK)), standard, missing])


def _newton(design: NDArray[Any], target: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients by Newton's method; the ridge holds all but the first."""
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 1e-6
    coefficients = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probability = scipy.special.expit(design @ coefficients)
        curvature = weight * np.maximum(probability * (1 - probability), 1e-9)
        gradient = design.T @ (weight * (target - probability)) - ridge * coefficients
        step = np.linalg.solve((design.T * curvature) @ design + np.diag(ridge), gradient)
        coefficients = coefficients + step
        if np.abs(step).max() < _CLOSE:
            break
    return coefficients
