"""P(match): how likely the sound of a clip belongs to its picture, learned from this corpus alone.

A corpus's own pairs are a mixture: a share m of them match, the others do not. Pairs that were made wrong on purpose
(another source's sound, its own at a wrong time) show what the others look like. With s the score's probability that a
pair is an own one and not a made one, both heaps being equally large, made over own is (1 - s) / s, and by Bayes

    P(match | evidence) = 1 - (1 - m) (1 - s) / s.

All made pairs decide on the score; s is counted against those of another source's sound alone, which come nearest to
matching: where only wrong times were common, foreign sounds would pass.

m is estimated where made pairs are common and matching ones are not: among the lowest scores, own pairs are as many as
the share 1 - m of the made ones (Elkan and Noto 2008; Scott 2015 on mixture proportions). Scores are cross-fitted
by source video: no clip is judged by a score that saw a pair of its video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.core.types import Estimate
from flywheel.curation.logistic import Score, fit_score
from flywheel.curation.pairs import Pairs, folds_of

#: Fewer own pairs tell nothing.
MIN_PAIRS = 30
#: More pairs make the intervals no narrower than they need be.
MAX_PAIRS = 20_000
NUM_FOLDS = 5
#: Shares of made pairs below the score at which the share of matches may be read off: the lower, the fewer matching
#: pairs are among them; the higher, the more pairs there are to count.
_LOW_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Thresholds whose costs are stated; bins of the reliability curve.
THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))
NUM_BINS = 10
_RESAMPLES = 400
#: P(match) of the worst, by their score.
_LEAST = 0.001


class TooFewPairs(UserError):
    """There are too few clips whose sound and picture can be compared."""

    code = "pairs"


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


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """P(match) of this corpus. ``share_matched`` is m; ``auc`` how well own and made pairs are told apart."""

    scores: tuple[Score, ...]
    share_matched: Estimate
    auc: float
    num_pairs: int
    thresholds: tuple[Threshold, ...]
    reliability: tuple[Bin, ...]

    def p_match(self, own: NDArray[np.float32], source: NDArray[np.uint64]) -> NDArray[np.float32]:
        """P(match) (n,) of clips' features (n, k); nan where all of them are."""
        probability = _by_fold(self.scores, own, source)
        return _corrected(probability, self.share_matched.value, np.asarray(np.isnan(own).all(axis=1))).astype(
            np.float32
        )

    def cost(self, at: float) -> Threshold:
        """The stated threshold that is nearest to a probability."""
        return min(self.thresholds, key=lambda threshold: abs(threshold.at - at))

    def losing(self, most: float) -> Threshold:
        """The highest threshold that loses at most this share of the good clips; the lowest of all if none does."""
        good = [threshold for threshold in self.thresholds if threshold.lost.value <= most]
        return max(good, key=lambda threshold: threshold.at, default=self.thresholds[0])


def calibrate(pairs: Pairs, *, seed: int = 0) -> Calibration:
    """P(match) from these pairs. Raises TooFewPairs under :data:`MIN_PAIRS` comparable clips, or of one source alone.

    What a lead dropped counts as a made pair, what one kept stays an own one.
    """
    usable = np.flatnonzero(pairs.comparable())[:MAX_PAIRS]
    source, own, is_own = pairs.source[usable], pairs.own[usable], pairs.label[usable] != 0
    made = [control[usable] for control in pairs.controls]
    features = np.concatenate([own, *made])
    first = np.concatenate([is_own, np.zeros(len(own) * len(made), dtype=bool)])
    # What the first control made, beside the clips' own pairs.
    counted = np.arange(len(features)) < 2 * len(own)
    there = ~np.isnan(features).all(axis=1)
    features, first, counted = features[there], first[there], counted[there]
    sources = np.tile(source, 1 + len(made))[there]
    num_own, num_made = int(first.sum()), int((~first & counted).sum())
    if min(num_own, num_made) < MIN_PAIRS or len(np.unique(source)) < 2:
        raise TooFewPairs(
            f"curate: {min(num_own, num_made)} train clips of {len(np.unique(source))} videos have a sound and a "
            f"picture that can be compared, and P(match) needs {MIN_PAIRS} of two videos or more. Take in more clips, "
            "or let another column decide (curate.policy: least, curate.by)."
        )
    scores = _fitted(features, first, counted, sources)
    probability = _by_fold(scores, features, sources)
    counts = _Counts.of(probability[counted], first[counted], sources[counted], seed)
    share = counts.share_matched()
    return Calibration(
        scores=scores,
        share_matched=share,
        auc=_auc(probability[first], probability[~first & counted]),
        num_pairs=num_own,
        thresholds=counts.thresholds(share.value),
        reliability=counts.reliability(share.value, probability[first]),
    )


def _fitted(
    features: NDArray[np.float32], first: NDArray[np.bool_], counted: NDArray[np.bool_], sources: NDArray[np.uint64]
) -> tuple[Score, ...]:
    """A score for each fold, from the pairs of the others; from all where the others lack a heap."""
    folds = folds_of(sources, NUM_FOLDS)
    scores = []
    for fold in range(NUM_FOLDS):
        others = folds != fold
        if (first & others).sum() < 2 or (~first & counted & others).sum() < 2:
            others = np.ones(len(first), dtype=bool)
        scores.append(fit_score(features[others], first[others], counted[others]))
    return tuple(scores)


def _by_fold(
    scores: tuple[Score, ...], features: NDArray[np.float32], source: NDArray[np.uint64]
) -> NDArray[np.float64]:
    out = np.full(len(features), np.nan)
    folds = folds_of(source, len(scores))
    for fold, score in enumerate(scores):
        there = folds == fold
        out[there] = score.of(features[there])
    return out


def _corrected(
    probability: NDArray[np.float64], share: float, unknown: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """P(match) from the probability of an own pair, as the module's formula has it."""
    out = np.minimum(1 - (1 - share) * (1 - probability) / np.maximum(probability, 1e-9), 1)
    # Not quite 0, so that of the worst too the better comes first.
    out = np.maximum(out, _LEAST * probability)
    return out if unknown is None else np.where(unknown, np.nan, out)


def _auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """The chance that one of ``high`` is above one of ``low``; ties count half."""
    low = np.sort(low)
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / 2 / len(low))


@dataclass(frozen=True, kw_only=True)
class _Counts:
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
        cls, probability: NDArray[np.float64], first: NDArray[np.bool_], sources: NDArray[np.uint64], seed: int
    ) -> _Counts:
        """Count, and resample whole sources (cluster bootstrap): clips of a video are alike."""
        fine = np.minimum((probability * _FINE).astype(np.int64), _FINE - 1)
        names, index = np.unique(sources, return_inverse=True)
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
        weights = np.concatenate([np.ones((1, len(names))), draws])
        heaps = []
        for heap in (first, ~first):
            out = np.zeros((len(weights), _FINE + 1))
            for row, weight in enumerate(weights):
                counts = np.bincount(fine[heap], weights=weight[index[heap]], minlength=_FINE)
                out[row, 1:] = np.cumsum(counts) / max(counts.sum(), 1)
            heaps.append(out)
        num_own = int(first.sum())
        return cls(own=heaps[0], made=heaps[1], rest=_rest(heaps[0], heaps[1], num_own), num_own=num_own)

    def share_matched(self) -> Estimate:
        return _estimate(1 - self.rest, self.num_own)

    def thresholds(self, share: float) -> tuple[Threshold, ...]:
        """What each threshold costs."""
        out = []
        for at, below in zip(THRESHOLDS, self._places(share, np.array(THRESHOLDS))):
            own, made = self.own[:, below], self.made[:, below]
            lost = np.clip((own - self.rest * made) / (1 - self.rest), 0, 1)
            kept_bad = _estimate(1 - made, self.num_own)
            out.append(Threshold(at=at, lost=_estimate(lost, self.num_own), kept_bad=kept_bad))
        return tuple(out)

    def reliability(self, share: float, probability: NDArray[np.float64]) -> tuple[Bin, ...]:
        """P(match) against the share of matches among own pairs, which made pairs tell: 1 - (1 - m) made / own."""
        edges = np.linspace(0, 1, NUM_BINS + 1)
        places = self._places(share, edges)
        places[-1] = _FINE
        p_match = _corrected(probability, share)
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
                    predicted=float(p_match[within].mean()),
                    observed=_estimate(observed, int(within.sum())),
                )
            )
        return tuple(out)

    def _places(self, share: float, p_match: NDArray[np.float64]) -> NDArray[np.int64]:
        """The fine bins (k,) below which all have a lower P(match) than each of these (k,)."""
        return np.searchsorted(_corrected((np.arange(_FINE) + 0.5) / _FINE, share), p_match, "left")


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


#: Bins of the score that are counted.
_FINE = 1000


def _estimate(values: NDArray[np.float64], n: int) -> Estimate:
    """The first value, with the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    value = float(values[0])
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)), n=n)
