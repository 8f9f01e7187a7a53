"""Agreement of two orders of the same things, and of two choices among them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Set

import numpy as np
import scipy
from jaxtyping import Num


def spearman(a: Num[np.ndarray, " N"], b: Num[np.ndarray, " N"]) -> float:
    """Spearman's rank correlation, in [-1, 1]; equal values share their mean rank (Spearman 1904).

    nan for fewer than two things, and where one side's values are all equal.
    """
    if len(a) < 2:
        return math.nan
    first, second = (ranks - ranks.mean() for ranks in map(scipy.stats.rankdata, (a, b)))
    spread = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / spread if spread else math.nan


def jaccard(a: Set[Hashable], b: Set[Hashable]) -> float:
    """Share of what is in both, of what is in either; 1 where both are empty."""
    return len(a & b) / len(a | b) if a | b else 1.0
