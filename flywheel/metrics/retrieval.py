"""How well what is asked for is found: recall, ranks and nDCG, ties counted by what a random order of them would give.

Each query has one item that is right. All figures are of raw similarities, before any re-ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from flywheel.core.types import Estimate
from flywheel.metrics.intervals import mean_estimate, median_estimate

#: Similarities that are compared at a time.
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Places:
    """For each of Q queries how many of ``num_items`` items are more similar than the right one, and how many as much.

    Its rank, counted from 1, is ``better + 1`` to ``better + ties + 1``, each as likely. So vectors that are all equal
    find what chance finds, and nothing depends on the order in which items are listed.
    """

    better: Int[np.ndarray, " Q"]
    ties: Int[np.ndarray, " Q"]
    num_items: int

    def recalls(self, k: int) -> Float[np.ndarray, " Q"]:
        """For each query the probability that the right item is among the first ``k``."""
        if k < 1:
            raise ValueError(f"recall: need k >= 1, got {k}")
        shares: Float[np.ndarray, " Q"] = np.clip((k - self.better) / (self.ties + 1), 0.0, 1.0)
        return shares

    def ranks(self) -> Float[np.ndarray, " Q"]:
        """For each query the mean rank of the right item, from 1."""
        return self.better + 1 + self.ties / 2

    def ndcgs(self, k: int = 10) -> Float[np.ndarray, " Q"]:
        r"""For each query the expected $1 / \log_2(1 + r)$ of the rank r, 0 for r > k (Järvelin & Kekäläinen 2002)."""
        if k < 1:
            raise ValueError(f"ndcg: need k >= 1, got {k}")
        # Gains of the first n ranks together, by n.
        sums = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        first, last = np.minimum(self.better, k), np.minimum(self.better + self.ties + 1, k)
        gains: Float[np.ndarray, " Q"] = (sums[last] - sums[first]) / (self.ties + 1)
        return gains


def places(similarity_QN: Real[np.ndarray, "Q N"], target_Q: Int[np.ndarray, " Q"]) -> Places:
    """Where each query's right item lies; ``target_Q`` is its column.

    Raises ValueError for a target that is no column, and for similarities that are no numbers: a vector with nan would
    be compared as if it were never better.
    """
    similarity, target = np.asarray(similarity_QN), np.asarray(target_Q)
    if similarity.ndim != 2 or target.shape != similarity.shape[:1]:
        raise ValueError(f"retrieval: need (Q, N) and (Q,), got {similarity.shape} and {target.shape}")
    num_queries, num_items = similarity.shape
    if num_queries and not (target.min() >= 0 and target.max() < num_items):
        raise ValueError(f"retrieval: need targets in [0, {num_items}), got {target.min()} to {target.max()}")
    better, ties = np.zeros(num_queries, np.int64), np.zeros(num_queries, np.int64)
    step = max(1, _BLOCK // max(1, num_items))
    for start in range(0, num_queries, step):
        part = slice(start, start + step)
        block = similarity[part]
        if np.isnan(block).any():
            raise ValueError("retrieval: need numbers as similarities, got nan")
        right = np.take_along_axis(block, target[part, None], axis=1)
        better[part], ties[part] = (block > right).sum(1), (block == right).sum(1) - 1
    return Places(better=better, ties=ties, num_items=num_items)


def recall_at(similarity_QN: Real[np.ndarray, "Q N"], target_Q: Int[np.ndarray, " Q"], k: int) -> float:
    """Share of queries whose right item is among the ``k`` most similar; nan without queries.

    Raises ValueError as :func:`places` does, and for ``k`` below 1.
    """
    recalls = places(similarity_QN, target_Q).recalls(k)
    return float(recalls.mean()) if len(recalls) else float("nan")


def median_rank(similarity_QN: Real[np.ndarray, "Q N"], target_Q: Int[np.ndarray, " Q"]) -> float:
    """Median over queries of the right item's rank, from 1; nan without queries. Raises as :func:`places` does."""
    ranks = places(similarity_QN, target_Q).ranks()
    return float(np.median(ranks)) if len(ranks) else float("nan")


def ndcg_at(similarity_QN: Real[np.ndarray, "Q N"], target_Q: Int[np.ndarray, " Q"], k: int = 10) -> float:
    """Mean over queries of nDCG@k; nan without queries. Raises as :func:`places` does, and for ``k`` below 1."""
    gains = places(similarity_QN, target_Q).ndcgs(k)
    return float(gains.mean()) if len(gains) else float("nan")


def retrieval_estimates(
    similarity_QN: Real[np.ndarray, "Q N"],
    target_Q: Int[np.ndarray, " Q"],
    *,
    ks: Sequence[int] = (1, 5, 10, 50),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """``recall@k``, ``median_rank`` and ``ndcg@10`` with 95 % intervals; what is drawn again is queries.

    Raises ValueError as :func:`places` does.
    """
    found = places(similarity_QN, target_Q)
    figures = {f"recall@{k}": mean_estimate(found.recalls(k), resamples=resamples, seed=seed) for k in ks}
    figures["median_rank"] = median_estimate(found.ranks(), resamples=resamples, seed=seed)
    figures["ndcg@10"] = mean_estimate(found.ndcgs(10), resamples=resamples, seed=seed)
    return figures


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation over repeated draws."""

    mean: float
    sd: float


def recall_among(
    similarity_NN: Real[np.ndarray, "N N"],
    *,
    size: int = 100,
    repeats: int = 100,
    ks: Sequence[int] = (1, 3, 10),
    seed: int = 0,
) -> Mapping[int, Spread]:
    """Recall@k among ``size`` pairs drawn ``repeats`` times: AVVA's protocol (arXiv 2503.09205, III; 100 of N, 100 ×).

    Row i's right column is i. Chance is k / size, whatever N is. Raises ValueError for fewer than ``size`` pairs.
    """
    similarity = np.asarray(similarity_NN)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) < size:
        raise ValueError(f"recall_among: need a square of at least {size} pairs, got {similarity.shape}")
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []
    for _ in range(repeats):
        drawn = rng.choice(len(similarity), size, replace=False)
        found = places(similarity[np.ix_(drawn, drawn)], np.arange(size))
        rows.append([float(found.recalls(k).mean()) for k in ks])
    values = np.array(rows)
    return {k: Spread(mean=float(values[:, i].mean()), sd=float(values[:, i].std())) for i, k in enumerate(ks)}
