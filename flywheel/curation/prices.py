"""What a probability is worth and what its thresholds cost, with intervals that resample whole videos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import Estimate

#: Shares of made pairs below the score at which the share of matches may be read off: the lower, the fewer matching
#: pairs are among them; the higher, the more pairs there are to count.
_LOW_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Thresholds whose costs are stated; bins of the reliability curve.
THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))
NUM_BINS = 10
RESAMPLES = 400
#: Bins of the score that are counted.
_FINE = 1000
#: P(match) of the worst, by their score.
_LEAST = 0.001


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What keeping clips from this P(match) on costs: ``lost`` of the good ones go, ``kept_bad`` of the bad ones stay.

    Both are shares of the clips that can be compared, as far as synchrony and the other columns tell; bad ones are as
    the made pairs are.
    """

    at: float
    lost: Estimate
    kept_bad: Estimate


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A bin of the reliability curve: the mean P(match) of its clips, and the share of matches that was observed."""

    low: float
    high: float
    predicted: float
    observed: Estimate


def corrected(
    probability: NDArray[np.float64], share: float, unknown: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """P(match) from the probability of an own pair, as the module's formula has it."""
    out = np.minimum(1 - (1 - share) * (1 - probability) / np.maximum(probability, 1e-9), 1)
    # Not quite 0, so that of the worst too the better comes first.
    out = np.maximum(out, _LEAST * probability)
    return out if unknown is None else np.where(unknown, np.nan, out)


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Own and made pairs by fine bins of the score, as they are and as resamplings of the sources have them.

    ``own`` and ``made``: shares below each bin's lower edge (1 + resamples, fine bins + 1), the first row the sample's.
    ``rest``: 1 - m of each row. ``num_own`` pairs.
    """

    own: NDArray[np.float64]
    made: NDArray[np.float64]
    rest: NDArray[np.float64]
    num_own: int

    @classmethod
    def of(
        cls,
        probability: NDArray[np.float64],
        first: NDArray[np.bool_],
        sources: NDArray[np.uint64],
        seed: int,
        weight: NDArray[np.float64],
        resamples: int = RESAMPLES,
    ) -> PairCounts:
        """Count pairs by their weight, and resample whole sources (cluster bootstrap): clips of a video are alike.

        Without ``resamples`` no figure has an interval.
        """
        fine = np.minimum((probability * _FINE).astype(np.int64), _FINE - 1)
        names, index = np.unique(sources, return_inverse=True)
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        weights = np.concatenate([np.ones((1, len(names))), draws])
        heaps = []
        for heap in (first, ~first):
            out = np.zeros((len(weights), _FINE + 1))
            for row, times in enumerate(weights):
                counts = np.bincount(fine[heap], weights=times[index[heap]] * weight[heap], minlength=_FINE)
                out[row, 1:] = np.cumsum(counts) / max(counts.sum(), 1e-9)
            heaps.append(out)
        num_own = int(first.sum())
        return cls(own=heaps[0], made=heaps[1], rest=_rest(heaps[0], heaps[1], num_own), num_own=num_own)

    def share_matched(self) -> Estimate:
        return _estimate(1 - self.rest, self.num_own)

    def share_alone(self) -> float:
        """m without its interval."""
        return float(1 - self.rest[0])

    def thresholds(self, share: float) -> tuple[Threshold, ...]:
        """What each threshold costs."""
        out = []
        for at, below in zip(THRESHOLDS, self._places(share, np.array(THRESHOLDS))):
            own, made = self.own[:, below], self.made[:, below]
            lost = np.clip((own - self.rest * made) / (1 - self.rest), 0, 1)
            kept_bad = _estimate(1 - made, self.num_own)
            out.append(Threshold(at=at, lost=_estimate(lost, self.num_own), kept_bad=kept_bad))
        return tuple(out)

    def reliability(
        self, share: float, probability: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> tuple[Bin, ...]:
        """P(match) against the share of matches among own pairs, which made pairs tell: 1 - (1 - m) made / own."""
        edges = np.linspace(0, 1, NUM_BINS + 1)
        places = self._places(share, edges)
        places[-1] = _FINE
        p_match = corrected(probability, share)
        bins = np.minimum((p_match * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        out = []
        for number in np.unique(bins):
            low, high = places[number], places[number + 1]
            own, made = (heap[:, high] - heap[:, low] for heap in (self.own, self.made))
            observed = np.clip(1 - self.rest * made / np.maximum(own, 1e-9), 0, 1)
            within = bins == number
            out.append(
                Bin(
                    low=float(edges[number]),
                    high=float(edges[number + 1]),
                    predicted=float(np.average(p_match[within], weights=weight[within])),
                    observed=_estimate(observed, int(within.sum())),
                )
            )
        return tuple(out)

    def _places(self, share: float, p_match: NDArray[np.float64]) -> NDArray[np.int64]:
        """The fine bins (k,) below which all have a lower P(match) than each of these (k,)."""
        return np.searchsorted(corrected((np.arange(_FINE) + 0.5) / _FINE, share), p_match, "left")


def _rest(own: NDArray[np.float64], made: NDArray[np.float64], num_own: int) -> NDArray[np.float64]:
    """1 - m of each row: own over made pairs among the lowest scores, where that is least and best known."""
    rows, found = np.arange(len(made)), []
    for share in _LOW_SHARES:
        low = np.argmax(made >= share, axis=1)
        found.append(own[rows, low] / np.maximum(made[rows, low], 1e-9))
    # By the sample's own row for all: what is least in each by itself would be too little.
    error = [np.sqrt(max(ratio[0], 1 / num_own) / (num_own * share)) for ratio, share in zip(found, _LOW_SHARES)]
    best = int(np.argmin([ratio[0] + e for ratio, e in zip(found, error)]))
    return np.asarray(np.clip(found[best], 0, 0.98))


def _estimate(values: NDArray[np.float64], n: int) -> Estimate:
    """The first value, with the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    value = float(values[0])
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)), n=n)
