"""Measures against values worked by hand, and intervals against what they promise."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flywheel.metrics import diversity, mean_estimate, paired_difference, quantity, reference_quality, rouge_l, token_f1
from flywheel.metrics.text import distinct, segments, uniqueness


def test_token_f1() -> None:
    assert token_f1("a red cat", "A red dog!") == pytest.approx(2 / 3)
    assert token_f1("red red", "red") == pytest.approx(2 * 1 / 3)
    assert token_f1("", "") == 1
    assert token_f1("", "x") == 0


def test_rouge_l() -> None:
    assert rouge_l("the cat sat", "the cat sat") == 1
    assert rouge_l("a b c d", "b d a") == pytest.approx(2 * 2 / 7)
    assert rouge_l("x", "y") == 0


def test_distinct() -> None:
    assert distinct(["a", "b", "a", "b"], 1) == 0.5
    assert distinct(["a", "b", "a", "b"], 3) == 1.0
    assert distinct([], 1) == 0


def test_segments_have_one_size() -> None:
    parts = list(segments(["one two three"] * 10, 4, seed=0))
    assert [len(p) for p in parts] == [4] * 7
    assert list(segments(["one two"], 10, seed=0)) == [["one", "two"]]
    assert list(segments([], 10, seed=0)) == []


def test_uniqueness_is_the_share_of_different_texts() -> None:
    assert uniqueness(["a", "a", "b", "c"]).mean() == pytest.approx(3 / 4)


def test_diversity_does_not_grow_with_the_corpus() -> None:
    """The same kind of text, ten times as much of it: distinct-n stays, because it is counted on a fixed size."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 200, 10)) for _ in range(2000)]
    small, large = (diversity(t, segment_tokens=500, resamples=200)["distinct_1"] for t in (texts[:200], texts))
    assert small.value == pytest.approx(large.value, abs=0.02)
    assert small.low <= small.value <= small.high
    repeated = diversity(["the same again"] * 500, segment_tokens=300, resamples=200)
    assert repeated["distinct_1"].value == pytest.approx(3 / 300)
    assert repeated["unique"].value == pytest.approx(1 / 500)


def test_quantity() -> None:
    assert quantity(["two words", "one"], [1800.0, 1800.0]) == {"annotations": 2.0, "hours": 1.0, "tokens": 3.0}


def test_reference_quality() -> None:
    found = reference_quality(["a b", "c"], ["a b", "d"], resamples=200)
    assert found["token_f1"].value == 0.5
    assert found["rouge_l"].n == 2


def test_intervals_cover() -> None:
    """95 % intervals of a mean hold the true mean about that often."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = mean_estimate(rng.normal(0.3, 1, 80), resamples=400, seed=int(rng.integers(1 << 30)))
        hits += found.low <= 0.3 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_paired_difference_is_sharper_than_its_parts() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(0, 1, 100)
    after = before + 0.1 + rng.normal(0, 0.05, 100)
    found = paired_difference(after.tolist(), before.tolist())
    assert found.low > 0
    assert found.value == pytest.approx(0.1, abs=0.02)
    with pytest.raises(ValueError, match="equally many"):
        paired_difference([1.0], [1.0, 2.0])


def test_few_values() -> None:
    assert np.isnan(mean_estimate([]).value)
    one = mean_estimate([0.5])
    assert (one.low, one.value, one.high, one.n) == (0.5, 0.5, 0.5, 1)
    assert mean_estimate([0.7] * 5).low == 0.7


def test_an_interval_takes_the_same_memory_whatever_the_sample() -> None:
    values = np.random.default_rng(0).normal(size=300_000)
    tracemalloc.start()
    try:
        interval = mean_estimate(values, resamples=60)
        assert tracemalloc.get_traced_memory()[1] < 120e6  # All at once: 60 x 300,000 numbers and indices, 288 MB.
    finally:
        tracemalloc.stop()
    assert interval.low < interval.value < interval.high
