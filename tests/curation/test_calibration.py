"""P(match) against a truth that is known, and what thresholds say that they cost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.curation.calibration import Calibration, TooFewPairs, calibrate
from flywheel.curation.curve import rising
from flywheel.curation.pairs import Pairs, folds_of


def simulated(
    count: int, share: float, seed: int, *, apart: float = 4.0, clips_per_video: int = 2
) -> tuple[Pairs, NDArray[np.bool_]]:
    """Pairs of which a share matches, and which do; a tenth of them can't be told."""
    rng = np.random.default_rng(seed)
    matches = rng.random(count) < share

    def wrong() -> NDArray[np.float32]:
        return np.column_stack([rng.normal(0, 1, count), np.abs(rng.normal(3, 0.7, count))]).astype(np.float32)

    right = np.column_stack([rng.normal(apart, 1.5, count), np.abs(rng.normal(0.5, 1, count))])
    own = np.where(matches[:, None], right, wrong()).astype(np.float32)
    controls = (wrong(), wrong())
    for features in (own, *controls):
        features[rng.random(count) < 0.1] = np.nan
    source = np.arange(count, dtype=np.uint64) // np.uint64(clips_per_video)
    return Pairs(own=own, controls=controls, source=source, label=np.full(count, -1, np.int8)), matches


@pytest.fixture(scope="module")
def calibrated() -> tuple[Calibration, Pairs, NDArray[np.bool_]]:
    pairs, matches = simulated(4000, 0.7, 1)
    return calibrate(pairs), pairs, matches


@pytest.mark.slow
def test_the_share_of_matches_is_found_among_pairs_that_nobody_labelled(
    calibrated: tuple[Calibration, Pairs, NDArray[np.bool_]],
) -> None:
    share = calibrated[0].share_matched
    assert share.value == pytest.approx(0.7, abs=0.03)
    assert share.low < 0.7 < share.high
    for truth in (0.3, 1.0):
        assert calibrate(simulated(1500, truth, 2)[0]).share_matched.value == pytest.approx(truth, abs=0.05)


def test_in_ten_bins_the_probability_is_what_is_true_of_clips_that_were_not_fitted(
    calibrated: tuple[Calibration, Pairs, NDArray[np.bool_]],
) -> None:
    calibration, _, _ = calibrated
    pairs, matches = simulated(4000, 0.7, 99)
    p_match = calibration.p_match(pairs.own, pairs.source)
    assert np.array_equal(np.isnan(p_match), np.isnan(pairs.own).all(axis=1))
    bins = np.floor(np.clip(p_match, 0, 0.999) * 10)
    for number in range(10):
        within = bins == number
        if within.sum() >= 100:
            assert p_match[within].mean() == pytest.approx(matches[within].mean(), abs=0.08), number
    told = ~np.isnan(p_match)
    # The bins weighed by their clips: the expected calibration error.
    gaps = [
        abs(p_match[bins == n].mean() - matches[bins == n].mean()) * (bins == n).sum() for n in np.unique(bins[told])
    ]
    assert sum(gaps) / told.sum() <= 0.02


@pytest.mark.slow
def test_with_few_pairs_the_probability_is_no_accident_of_its_steps() -> None:
    """Of 200 clips; counted alone, steps of 24 pairs are off by .055 in the mean."""
    gaps = []
    for seed in range(4):
        pairs, matches = simulated(200, 0.7, 20 + seed)
        p_match = calibrate(pairs).p_match(pairs.own, pairs.source)
        told = ~np.isnan(p_match)
        bins = np.floor(np.clip(p_match, 0, 0.999) * 10)
        gaps += [abs((p_match - matches)[bins == n].sum()) / told.sum() for n in np.unique(bins[told])]
    assert sum(gaps) / 4 <= 0.04


def test_between_heaps_that_do_not_meet_the_chance_rises_as_the_score_says() -> None:
    """Of own pairs a few lie there, too few for a step: it was one value over all of the gap."""
    rng, count, rest = np.random.default_rng(0), 200, 0.3
    made, wrong = rng.normal(-4, 0.7, count), rng.normal(-4, 0.7, 60)
    own = np.concatenate([wrong, rng.normal(5, 0.7, 132), rng.uniform(1, 3, 8)])
    first = np.repeat([1.0, 0.0], count)
    knots, values = rising(np.concatenate([own, made]), first, np.ones(2 * count))
    assert (np.diff(values) >= 0).all()
    low, middle, high = np.interp([-2.0, np.log(1 + rest), 2.0], knots, values)
    floor = rest / (1 + rest)
    assert low == pytest.approx(floor, abs=0.1)
    assert low + 0.3 < middle < high - 0.05
    assert high >= 0.95


def test_a_threshold_costs_what_it_says(calibrated: tuple[Calibration, Pairs, NDArray[np.bool_]]) -> None:
    calibration, pairs, matches = calibrated
    p_match = calibration.p_match(pairs.own, pairs.source)
    told = ~np.isnan(p_match)
    for at in (0.2, 0.5, 0.8):
        price = calibration.cost(at)
        lost, kept = (p_match[told & matches] < at).mean(), (p_match[told & ~matches] >= at).mean()
        assert price.lost.low - 0.01 <= lost <= price.lost.high + 0.01
        assert price.kept_bad.low - 0.02 <= kept <= price.kept_bad.high + 0.02
    chosen = calibration.losing(0.02)
    assert chosen.lost.value <= 0.02
    assert (p_match[told & matches] < chosen.at).mean() <= 0.035
    assert calibration.losing(1.0).at == 0.99


def test_the_reliability_curve_is_of_what_was_observed(
    calibrated: tuple[Calibration, Pairs, NDArray[np.bool_]],
) -> None:
    bins = calibrated[0].reliability
    assert sum(bin.observed.n for bin in bins) == calibrated[0].num_pairs
    for bin in bins:
        assert bin.low <= bin.predicted <= bin.high
        if bin.observed.n >= 100:
            assert bin.predicted == pytest.approx(bin.observed.value, abs=0.1)


@pytest.mark.slow
def test_no_clip_is_judged_by_a_score_that_saw_its_video() -> None:
    pairs, _ = simulated(300, 0.7, 3)
    before = calibrate(pairs)
    folds = folds_of(pairs.source, len(before.scores))
    # Another label of one video changes the others' scores, and not its own.
    label = pairs.label.copy()
    label[pairs.source == pairs.source[0]] = 0
    after = calibrate(Pairs(own=pairs.own, controls=pairs.controls, source=pairs.source, label=label))
    own = folds[0]
    for fold, (a, b) in enumerate(zip(before.scores, after.scores)):
        assert np.array_equal(a.coefficients, b.coefficients) == (fold == own)


def test_folds_hold_whole_videos_and_are_of_like_size() -> None:
    source = np.arange(5000, dtype=np.uint64) // np.uint64(5)
    folds = folds_of(source, 5)
    assert all(len(set(folds[source == video])) == 1 for video in range(50))
    assert np.bincount(folds, minlength=5).min() > 700


def test_fewer_than_thirty_pairs_are_one_clear_line() -> None:
    pairs, _ = simulated(25, 0.7, 4)
    with pytest.raises(TooFewPairs, match=r"P\(match\) needs 30") as error:
        calibrate(pairs)
    assert error.value.exit_code == 2
    alike, _ = simulated(100, 0.7, 4, clips_per_video=1000)
    with pytest.raises(TooFewPairs, match="1 videos"):
        calibrate(alike)


def test_what_leads_dropped_counts_as_a_pair_that_does_not_match() -> None:
    pairs, matches = simulated(1000, 0.7, 5)
    label = np.where(matches, -1, 0).astype(np.int8)
    told = calibrate(Pairs(own=pairs.own, controls=pairs.controls, source=pairs.source, label=label))
    assert told.share_matched.value > calibrate(pairs).share_matched.value + 0.2
