"""Agreement against values worked by hand and against a brute force over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.core.types import Cue
from flywheel.metrics.agreement import boundary_iou, edit_rate, krippendorff_alpha, text_distance


def different(a: object, b: object) -> float:
    return float(a != b)


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C, nominal.

    .743 (12 units, 4 observers, gaps).
    """
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = {str(u): [row[u] for row in table if row[u] is not None] for u in range(12)}
    assert krippendorff_alpha(units, different) == pytest.approx(0.743, abs=5e-4)
    interval = krippendorff_alpha(units, lambda a, b: float((a - b) ** 2))  # type: ignore[operator]
    assert interval == pytest.approx(0.849, abs=5e-4), "the same source, interval data"


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha({"a": ["x", "x"], "b": ["y", "y"]}, different) == 1.0
    assert krippendorff_alpha({"a": ["x", "y"], "b": ["y", "x"]}, different) < 0
    for nothing in ({}, {"a": ["x"], "b": ["y"]}, {"a": ["x", "x"]}):
        assert math.isnan(krippendorff_alpha(nothing, different))


def test_alpha_of_many_is_near_alpha_of_all() -> None:
    rng = np.random.default_rng(0)
    units = {
        str(i): [int(rng.integers(3))] * 2 if rng.random() < 0.6 else rng.integers(3, size=2).tolist()
        for i in range(400)
    }
    pool = [v for values in units.values() for v in values]
    counts = np.bincount(pool)
    expected = 1 - sum(c * (c - 1) for c in counts) / (len(pool) * (len(pool) - 1))
    observed = np.mean([a != b for a, b in units.values()])
    assert krippendorff_alpha(units, different) == pytest.approx(1 - observed / expected, abs=0.02)


def test_distance_of_texts() -> None:
    assert text_distance("A red ball", "a ball, red!") == 0.0
    assert text_distance("a red ball", "a blue ball") == pytest.approx(1 / 3)
    assert (text_distance(None, "x"), text_distance(None, None)) == (1.0, 0.0)


def cue(start_s: float, end_s: float) -> Cue:
    return Cue(start_s=start_s, end_s=end_s, text="x")


def test_boundaries() -> None:
    assert boundary_iou([cue(0, 2), cue(2, 4)], [cue(2, 4), cue(0, 2)]) == 1.0
    assert boundary_iou([cue(0, 2)], [cue(1, 3)]) == pytest.approx(1 / 3)
    assert boundary_iou([cue(0, 2), cue(5, 6)], [cue(0, 2)]) == 0.5
    assert (boundary_iou([], []), boundary_iou([cue(0, 1)], [])) == (1.0, 0.0)


def test_edit_rate() -> None:
    assert edit_rate("a red ball rolls", "A red ball rolls.") == 0.0
    assert edit_rate("a red ball rolls", "a blue ball rolls left") == pytest.approx(2 / 5)
    assert edit_rate("a b c", "") == 3.0
    assert edit_rate("", "a b") == 1.0
