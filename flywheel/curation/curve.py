"""The chance that a pair is of the first heap, rising along a score's line: counted, and smooth where pairs are few.

Counts alone (isotonic regression) say of a step of 24 pairs whatever these happen to be, a tenth too much or too
little; P(match) is that error three times over. Between floor and ceiling the chance rises in one smooth curve, so what
a step counts is drawn to what the curve says of it (Efron and Morris 1975, shrinkage), less the more pairs it has.
Within a step, and between heaps that do not meet, the curve goes on: there are right pairs which a score holds for
doubtful, and too few of them for a step of their own.

The line is the log-odds of a matching pair against a made one. With a share 1 - m of own pairs like the made ones, an
own one's odds against a made one are then exp(line) + 1 - m: floor (1 - m) / (2 - m), ceiling 1, slope 1 and middle
log(2 - m). This is what the curve is where pairs do not say otherwise.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

#: Pairs of a step at least, and steps at most.
_STEP_PAIRS, _MOST_STEPS = 24, 60
#: What the curve's value is worth against a step's count, in pairs.
_WORTH = 100.0
#: Places at which the curve is fitted, and even ones between the ends at which it is kept too.
_PLACES, _BETWEEN = 200, 100
#: What places between pairs weigh, in pairs: next to nothing.
_NOTHING = 1e-3
#: How firmly floor, ceiling, middle and log of the slope are held, as 1 / variance: a slope between .14 and 7.4 and a
#: middle up to 2 to either side are likely; levels are only kept from running away.
_HOLD = np.array([0.01, 0.01, 1.0, 1.0])


def rising(
    line: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots of an increasing function of the line, and its values there: the share of ``target``; straight between.

    All are (n,); ``target`` is 1 for pairs of the first heap and 0 for others.
    """
    order = np.argsort(line, kind="stable")
    line, target, weight = line[order], target[order], weight[order]
    place, share, mass, _ = _grouped(line, target, weight, _PLACES)
    curve = _Curve.fitted(place, share, mass)
    num_steps = int(np.clip(len(line) / _STEP_PAIRS, 4, _MOST_STEPS))
    middle, counted, pairs, starts = _grouped(line, target, weight, num_steps)
    said = np.add.reduceat(weight * curve.at(line), starts) / pairs
    beyond = pairs / (pairs + _WORTH) * (counted - said)
    knots = np.union1d(place, np.linspace(line[0], line[-1], _BETWEEN))
    near = np.full(len(knots), _NOTHING)
    near[np.searchsorted(knots, place)] += mass
    values = np.clip(curve.at(knots) + np.interp(knots, middle, beyond), 0, 1)
    return knots, scipy.optimize.isotonic_regression(values, weights=near).x


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
    """floor + (ceiling - floor) * logistic(slope * (line - middle)).

    The floor lies below one half, where some pairs of the first heap are as the others, and the ceiling above.
    """

    def __init__(self, parameters: NDArray[np.float64]) -> None:
        self._parameters = parameters

    @classmethod
    def fitted(cls, place: NDArray[np.float64], share: NDArray[np.float64], mass: NDArray[np.float64]) -> _Curve:
        """The likeliest curve, held as the module says."""
        found = scipy.optimize.minimize(
            _unlikely,
            np.array([0.0, 2.0, 0.2, 0.0]),
            args=(place, mass * share, mass * (1 - share)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-8, 8), (-8, 8), (-12, 12), (-3, 3)],
        )
        return cls(found.x)

    def at(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """The curve's values."""
        floor, ceiling, middle, slope = _shape(self._parameters)
        return np.asarray(floor + (ceiling - floor) * scipy.special.expit(slope * (place - middle)))


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
    """The negative log-likelihood of both heaps' weights at x and of the parameters, and its gradient (4,)."""
    floor, ceiling, middle, slope = _shape(parameters)
    steep = scipy.special.expit(slope * (x - middle))
    share = np.clip(floor + (ceiling - floor) * steep, 1e-6, 1 - 1e-6)
    by_share = other / (1 - share) - first / share
    by_steep = by_share * (ceiling - floor) * steep * (1 - steep) * slope
    by_floor, by_ceiling = floor * (1 - 2 * floor), (ceiling - 0.5) * (2 - 2 * ceiling)
    gradient = np.array(
        [
            (by_share * (1 - steep)).sum() * by_floor,
            (by_share * steep).sum() * by_ceiling,
            -by_steep.sum(),
            (by_steep * (x - middle)).sum(),
        ]
    )
    # log(2 - m) is -log(1 - floor), and moves with the floor.
    pulled = parameters - np.array([0, 0, -np.log(1 - floor), 0])
    gradient += _HOLD * pulled
    gradient[0] -= _HOLD[2] * pulled[2] * by_floor / (1 - floor)
    loss = -(first * np.log(share) + other * np.log(1 - share)).sum() + (_HOLD * pulled**2).sum() / 2
    return float(loss), gradient
