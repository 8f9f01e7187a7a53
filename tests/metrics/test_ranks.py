"""Agreement of orders and of choices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from flywheel.metrics.ranks import jaccard, spearman


def test_rank_correlation_is_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 11, 50), rng.integers(0, 11, 50)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1.0)
    assert spearman(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1.0)


def test_what_has_no_order_has_no_correlation() -> None:
    assert math.isnan(spearman(np.array([5, 5, 5]), np.array([1, 2, 3])))
    assert math.isnan(spearman(np.array([1]), np.array([2])))
    assert math.isnan(spearman(np.array([]), np.array([])))


def test_choices() -> None:
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5
    assert jaccard({1}, {2}) == 0.0
    assert jaccard(set(), set()) == 1.0
