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
from flywheel.curation.prices import Bin, PairCounts, Threshold, corrected

#: Fewer own pairs tell nothing.
MIN_PAIRS = 30
#: More pairs make the intervals no narrower than they need be.
MAX_PAIRS = 20_000
NUM_FOLDS = 5


class TooFewPairs(UserError):
    """There are too few clips whose sound and picture can be compared."""

    code = "pairs"


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
        return corrected(probability, self.share_matched.value, np.asarray(np.isnan(own).all(axis=1))).astype(
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
    counts = PairCounts.of(probability[counted], first[counted], sources[counted], seed)
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


def _auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """The chance that one of ``high`` is above one of ``low``; ties count half."""
    low = np.sort(low)
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / 2 / len(low))
