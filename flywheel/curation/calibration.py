"""P(match): how likely the sound of a clip belongs to its picture, learned from this corpus alone.

A corpus's own pairs are a mixture: a share m of them match, the others do not. Pairs that were made wrong on purpose
(another source's sound, its own at a wrong time) show what the others look like. With s the score's probability that a
pair is an own one and not a made one, both heaps being equally large, made over own is (1 - s) / s, and by Bayes

    P(match | evidence) = 1 - (1 - m) (1 - s) / s.

All made pairs decide on the score; s is counted against those of another source's sound alone, which come nearest to
matching: where only wrong times were common, foreign sounds would pass.

Own pairs that do not match blur the score: it learns to take some of what the made ones look like for matching. So the
score is learned again with each own pair counting as a matching one by as much as P(match) says, as of presences among
unlabelled cases (Ward, Hastie, Barry, Elith and Leathwick 2009, "Presence-only data and the EM algorithm", whose
expectation this is); s, and with it the probability, is counted as before.

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
from flywheel.curation.pairs import Heaps, Pairs, folds_of
from flywheel.curation.prices import RESAMPLES, Bin, PairCounts, Threshold, corrected

#: Fewer own pairs tell nothing.
MIN_PAIRS = 30
#: More pairs make the intervals no narrower than they need be.
MAX_PAIRS = 20_000
NUM_FOLDS = 5
#: How often scores are learned again from what they say of own pairs. Chosen on one corpus (decision 43): more lose
#: some of what two gain.
SWEEPS = 2


class TooFewPairs(UserError):
    """There are too few clips whose sound and picture can be compared."""

    code = "pairs"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """P(match) of this corpus. ``share_matched`` is m; ``auc`` how well own and made pairs are told apart.

    ``scores`` go by the features that all clips have, ``judge_scores`` by all, those that a model was asked for
    (``asked``, (k,)) among them; each empty where there are too few pairs. ``num_judged`` pairs taught the latter.
    """

    scores: tuple[Score, ...]
    judge_scores: tuple[Score, ...]
    asked: NDArray[np.bool_]
    share_matched: Estimate
    auc: float
    num_pairs: int
    num_judged: int
    thresholds: tuple[Threshold, ...]
    reliability: tuple[Bin, ...]

    def p_match(self, own: NDArray[np.float32], source: NDArray[np.uint64]) -> NDArray[np.float32]:
        """P(match) (n,) of clips' features (n, k); nan where all of them are."""
        probability = _by_fold(self.scores, own[:, ~self.asked], source)
        judged = ~np.isnan(own[:, self.asked]).all(axis=1)
        if self.judge_scores and judged.any():
            probability[judged] = _by_fold(self.judge_scores, own[judged], source[judged])
        unknown = np.isnan(probability)
        return corrected(probability, self.share_matched.value, unknown).astype(np.float32)

    def cost(self, at: float) -> Threshold:
        """The stated threshold that is nearest to a probability."""
        return min(self.thresholds, key=lambda threshold: abs(threshold.at - at))

    def losing(self, most: float) -> Threshold:
        """The highest threshold that loses at most this share of the good clips; the lowest of all if none does."""
        good = [threshold for threshold in self.thresholds if threshold.lost.value <= most]
        return max(good, key=lambda threshold: threshold.at, default=self.thresholds[0])


def calibrate(pairs: Pairs, *, seed: int = 0, doubt: tuple[float, float] | None = None) -> Calibration:
    """P(match) from these pairs. Raises TooFewPairs under :data:`MIN_PAIRS` comparable clips, or of one source alone.

    What a lead dropped counts as a made pair, what one kept stays an own one. Of features that a model was asked for,
    a score of their own is learned from clips of which all pairs have them, which are a random choice; pairs at a wrong
    time teach it nothing: texts do not tell them from right ones. ``doubt``: the lowest and highest P(match) by the
    other features of clips about which the model was asked, for the thresholds' prices; left out, these are those of
    the other features alone.
    """
    heaps = Heaps.of(pairs, MAX_PAIRS)
    cheap, judged = heaps.of_features(~heaps.asked), heaps.rows(heaps.complete & heaps.counted)
    if not (_enough(cheap) or _enough(judged)):
        raise TooFewPairs(
            f"curate: {cheap.least()} train clips of {len(np.unique(heaps.source))} videos have a sound and a "
            f"picture that can be compared, and P(match) needs {MIN_PAIRS} of two videos or more. Take in more clips, "
            "or let another column decide (curate.policy: least, curate.by)."
        )
    scores, judge_scores = (_fitted(heap) if _enough(heap) else () for heap in (cheap, judged))
    if judge_scores and not scores:
        doubt = (0.0, 1.0)
    found = heaps.rows(heaps.counted)
    probability, weight = _by_fold(scores, found.features[:, ~found.asked], found.source), np.ones(len(found.first))
    if judge_scores and doubt is not None:
        share = _counts(found, probability, resamples=0).share_alone() if scores else 0.5
        unsure = np.isnan(probability) | _within(corrected(probability, share), doubt)
        _weigh(unsure, found, probability, weight, judge_scores)
    known = ~np.isnan(probability) & (weight > 0)
    found, probability, weight = found.rows(known), probability[known], weight[known]
    counts = _counts(found, probability, weight, seed=seed)
    share_matched, first = counts.share_matched(), found.first
    return Calibration(
        scores=scores,
        judge_scores=judge_scores,
        asked=heaps.asked,
        share_matched=share_matched,
        auc=_auc(probability[first], probability[~first], weight[first], weight[~first]),
        num_pairs=int(first.sum()),
        num_judged=judged.least() if judge_scores else 0,
        thresholds=counts.thresholds(share_matched.value),
        reliability=counts.reliability(share_matched.value, probability[first], weight[first]),
    )


def _enough(heaps: Heaps) -> bool:
    return heaps.least() >= MIN_PAIRS and len(np.unique(heaps.source)) >= 2


def _within(values: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((values >= bounds[0]) & (values <= bounds[1]))


def _counts(
    heaps: Heaps,
    probability: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> PairCounts:
    known, weight = ~np.isnan(probability), np.ones(len(probability)) if weight is None else weight
    return PairCounts.of(probability[known], heaps.first[known], heaps.source[known], seed, weight[known], resamples)


def _weigh(
    unsure: NDArray[np.bool_],
    heaps: Heaps,
    probability: NDArray[np.float64],
    weight: NDArray[np.float64],
    scores: tuple[Score, ...],
) -> None:
    """Let the pairs with all features, a random choice, stand for all that are unsure: in place.

    Nothing is changed where one of the heaps has none of them.
    """
    there = unsure & heaps.complete
    sides = [heaps.first, ~heaps.first]
    if not all((there & side).any() for side in sides):
        return
    for side in sides:
        weight[unsure & side] = 0
        weight[there & side] = (unsure & side).sum() / (there & side).sum()
    probability[there] = _by_fold(scores, heaps.features[there], heaps.source[there])


def _fitted(heaps: Heaps) -> tuple[Score, ...]:
    """A score for each fold, from the pairs of the others; from all where the others lack a heap."""
    folds = folds_of(heaps.source, NUM_FOLDS)
    scores = []
    for fold in range(NUM_FOLDS):
        others = folds != fold
        if (heaps.first & others).sum() < 2 or (~heaps.first & heaps.counted & others).sum() < 2:
            others = np.ones(len(folds), dtype=bool)
        scores.append(_learned(heaps.rows(others)))
    return tuple(scores)


def _learned(heaps: Heaps) -> Score:
    """The score of these pairs, learned again from what it says of the own ones."""
    score = fit_score(heaps.features, heaps.first, heaps.counted)
    for _ in range(SWEEPS):
        probability = score.of(heaps.features)
        counts = _counts(heaps.rows(heaps.counted), probability[heaps.counted], resamples=0)
        matched = corrected(probability, counts.share_alone())
        score = fit_score(heaps.features, heaps.first, heaps.counted, matched)
    return score


def _by_fold(
    scores: tuple[Score, ...], features: NDArray[np.float32], source: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """The probability (n,) of each pair by the score that did not see its source; nan where all features are."""
    out = np.full(len(features), np.nan)
    if not scores:
        return out
    folds, known = folds_of(source, len(scores)), ~np.isnan(features).all(axis=1)
    for fold, score in enumerate(scores):
        there = (folds == fold) & known
        out[there] = score.of(features[there])
    return out


def _auc(
    high: NDArray[np.float64], low: NDArray[np.float64], of_high: NDArray[np.float64], of_low: NDArray[np.float64]
) -> float:
    """The chance that one of ``high`` is above one of ``low``, each drawn by its weight; ties count half."""
    order = np.argsort(low)
    mass = np.concatenate([[0.0], np.cumsum(of_low[order])])
    below = mass[np.searchsorted(low[order], high, "left")] + mass[np.searchsorted(low[order], high, "right")]
    return float((of_high * below).sum() / 2 / mass[-1] / of_high.sum())
