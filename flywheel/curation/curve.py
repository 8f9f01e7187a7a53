"""The chance that a pair is of the first heap, rising along a score's line: counted, and smooth where pairs are few.

Counts alone (isotonic regression) say of a step of 24 pairs whatever these happen to be, a tenth too much or too
little; P(match) is that error three times over. Between floor and ceiling the chance rises in one smooth curve, so a
step's count is drawn to the curve's value (Efron and Morris 1975, shrinkage), less the more pairs it has.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

#: Pairs of a step at least, and steps at most.
_STEP_PAIRS, _MOST_STEPS = 24, 60
#: What the curve's value is worth against a step's count, in pairs.
_WORTH = 100.0
#: Places at which the curve is fitted.
_PLACES = 200
#: Pull of the curve's parameters to 0, in pairs: for heaps that do not meet, which have no best one.
_RIDGE = 0.01


def rising(
    line: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots of an increasing function of the line, and its values there: the share of ``target``; straight between.

    All are (n,); ``target`` is 1 for pairs of the first heap and 0 for others.
    """
    order = np.argsort(line, kind="stable")
    line, target, weight = line[order], target[order], weight[order]
    curve = _Curve.fitted(*_grouped(line, target, weight, _PLACES)[:3])
    place, share, mass, starts = _grouped(line, target, weight, int(np.clip(len(line) / _STEP_PAIRS, 4, _MOST_STEPS)))
    means = (mass * share + _WORTH * curve.at(place)) / (mass + _WORTH)
    values = scipy.optimize.isotonic_regression(means, weights=mass).x
    ends = np.append(starts[1:], len(line)) - 1
    return np.column_stack([line[starts], line[ends]]).ravel(), np.repeat(values, 2)


def _grouped(
    line: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean place, share of the target, weight and first row of groups of equally many sorted rows; ties together."""
    firsts = np.linspace(0, len(line), min(most, len(line)), endpoint=False).astype(np.int64)
    starts = np.unique(np.searchsorted(line, line[firsts])).astype(np.int64)
    mass = np.add.reduceat(weight, starts)
    place, share = (np.add.reduceat(weight * values, starts) / mass for values in (line, target))
    return place, share, mass, starts


class _Curve:
    """floor + (ceiling - floor) * logistic(slope * (x - middle)), with x the line, standardized.

    The floor lies below one half, where some pairs of the first heap are as the others, and the ceiling above.
    """

    def __init__(self, parameters: NDArray[np.float64], mean: float, scale: float) -> None:
        self._parameters, self._mean, self._scale = parameters, mean, scale

    @classmethod
    def fitted(cls, place: NDArray[np.float64], share: NDArray[np.float64], mass: NDArray[np.float64]) -> _Curve:
        """The likeliest curve."""
        mean = float(np.average(place, weights=mass))
        scale = float(np.sqrt(np.average((place - mean) ** 2, weights=mass))) or 1.0
        x = (place - mean) / scale
        first, other = mass * share, mass * (1 - share)
        between = (
            (np.average(x, weights=first) + np.average(x, weights=other)) / 2 if first.any() and other.any() else 0.0
        )
        found = scipy.optimize.minimize(
            _unlikely,
            np.array([0.0, 2.0, between, 1.0]),
            args=(x, first, other),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-8, 8), (-8, 8), (-6, 6), (-3, 4)],
        )
        return cls(found.x, mean, scale)

    def at(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """The curve's values."""
        floor, ceiling, middle, slope = _shape(self._parameters)
        steep = scipy.special.expit(slope * ((place - self._mean) / self._scale - middle))
        return np.asarray(floor + (ceiling - floor) * steep)


def _shape(parameters: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Floor, ceiling, middle and slope."""
    low, high = scipy.special.expit(parameters[:2]) / 2
    return float(low), float(0.5 + high), float(parameters[2]), float(np.exp(parameters[3]))


def _unlikely(
    parameters: NDArray[np.float64],
    x: NDArray[np.float64],
    first: NDArray[np.float64],
    other: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """The negative log-likelihood of both heaps' weights at x, and its gradient (4,)."""
    floor, ceiling, middle, slope = _shape(parameters)
    steep = scipy.special.expit(slope * (x - middle))
    share = np.clip(floor + (ceiling - floor) * steep, 1e-6, 1 - 1e-6)
    by_share = other / (1 - share) - first / share
    by_steep = by_share * (ceiling - floor) * steep * (1 - steep) * slope
    gradient = np.array(
        [
            (by_share * (1 - steep)).sum() * floor * (1 - 2 * floor),
            (by_share * steep).sum() * (ceiling - 0.5) * (2 - 2 * ceiling),
            -by_steep.sum(),
            (by_steep * (x - middle)).sum(),
        ]
    )
    pulled = parameters * np.array([1, 1, 0, 1])
    loss = -(first * np.log(share) + other * np.log(1 - share)).sum() + _RIDGE * (pulled**2).sum() / 2
    return float(loss), gradient + _RIDGE * pulled
