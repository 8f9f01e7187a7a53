"""Figures of retrieval, against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.metrics.intervals import mean_estimate
from flywheel.metrics.retrieval import (
    median_rank,
    ndcg_at,
    places,
    recall_among,
    recall_at,
    retrieval_estimates,
)

#: The right items (columns 0, 1, 2) are at ranks 1, 3 and 2; the third query's first two items are equal.
SIMILARITY = np.array([[0.9, 0.1, 0.2, 0.3], [0.8, 0.4, 0.7, 0.1], [0.9, 0.2, 0.5, 0.4]])
TARGET = np.array([0, 1, 2])


def test_figures_are_those_worked_by_hand() -> None:
    assert recall_at(SIMILARITY, TARGET, 1) == pytest.approx(1 / 3)
    assert recall_at(SIMILARITY, TARGET, 2) == pytest.approx(2 / 3)
    assert recall_at(SIMILARITY, TARGET, 3) == 1
    assert median_rank(SIMILARITY, TARGET) == 2
    # 1 / log2(2), 1 / log2(4), 1 / log2(3).
    assert ndcg_at(SIMILARITY, TARGET) == pytest.approx((1 + 0.5 + 1 / math.log2(3)) / 3)
    assert ndcg_at(SIMILARITY, TARGET, 2) == pytest.approx((1 + 0 + 1 / math.log2(3)) / 3)


def test_ties_count_what_a_random_order_of_them_would() -> None:
    # One item is better than the right one, two are equal to it: its rank is 2, 3 or 4.
    row, right = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]]), np.array([2])
    found = places(row, right)
    assert [float(found.recalls(k)[0]) for k in (1, 2, 3, 4, 5)] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert found.ranks().tolist() == [3]
    assert found.ndcgs(3)[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(4) + 0) / 3)
    # Vectors that are all equal find what chance finds, wherever the right item stands.
    flat = np.ones((50, 50))
    assert recall_at(flat, np.arange(50), 5) == pytest.approx(0.1)
    assert recall_at(flat, np.zeros(50, int), 1) == pytest.approx(0.02)


def test_ties_are_the_mean_over_orders() -> None:
    rng = np.random.default_rng(0)
    similarity, target = rng.integers(0, 4, (20, 30)).astype(float), rng.integers(0, 30, 20)
    orders = [places(similarity + 1e-6 * rng.random(similarity.shape), target) for _ in range(600)]
    ours = places(similarity, target)
    for k in (1, 5):
        assert ours.recalls(k).mean() == pytest.approx(np.mean([o.recalls(k).mean() for o in orders]), abs=0.02)
    assert ours.ndcgs().mean() == pytest.approx(np.mean([o.ndcgs().mean() for o in orders]), abs=0.02)


def test_intervals_draw_queries() -> None:
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(60, 40))
    similarity[np.arange(30), np.arange(30)] += 4
    target = np.arange(60) % 40
    figures = retrieval_estimates(similarity, target, ks=(1, 5), resamples=200)
    assert set(figures) == {"recall@1", "recall@5", "median_rank", "ndcg@10"}
    recall = figures["recall@1"]
    assert recall.value == recall_at(similarity, target, 1)
    assert recall == mean_estimate(places(similarity, target).recalls(1), resamples=200)
    assert recall.n == 60
    median = figures["median_rank"]
    assert median.low <= median.value == median_rank(similarity, target) <= median.high


def test_a_hundred_of_many_has_the_chance_of_a_hundred() -> None:
    flat = recall_among(np.ones((300, 300)), repeats=5)
    assert [flat[k].mean for k in (1, 3, 10)] == pytest.approx([0.01, 0.03, 0.1])
    # Half of the items are like nothing else, the others are all the same: of 100 some 50 find theirs.
    half = recall_among(np.block([[np.eye(150), np.zeros((150, 150))], [np.zeros((150, 300))]]), repeats=40)
    assert half[1].mean == pytest.approx(0.5, abs=0.03)
    assert 0.02 < half[1].sd < 0.08
    assert recall_among(np.eye(100), repeats=2)[1].mean == 1
    with pytest.raises(ValueError, match="at least 100 pairs"):
        recall_among(np.eye(99))


def test_what_is_no_retrieval_is_refused() -> None:
    with pytest.raises(ValueError, match="got nan"):
        recall_at(np.array([[0.1, np.nan]]), np.array([0]), 1)
    with pytest.raises(ValueError, match=r"targets in \[0, 4\)"):
        recall_at(SIMILARITY, np.array([0, 1, 4]), 1)
    with pytest.raises(ValueError, match="k >= 1"):
        recall_at(SIMILARITY, TARGET, 0)
    assert math.isnan(recall_at(np.zeros((0, 4)), np.zeros(0, int), 1))
