"""Quantity, diversity and quality of a set of annotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from flywheel.core.types import Estimate
from flywheel.metrics.intervals import mean_estimate
from flywheel.metrics.text import distinct, rouge_l, segments, token_f1, uniqueness, words


def quantity(texts: Sequence[str], durations_s: Sequence[float]) -> dict[str, float]:
    """Number of annotations, hours of video that they annotate, and words."""
    return {
        "annotations": float(len(texts)),
        "hours": sum(durations_s) / 3600.0,
        "tokens": float(sum(len(words(text)) for text in texts)),
    }


def diversity(
    texts: Sequence[str], *, segment_tokens: int, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """distinct-1, distinct-3 and vocabulary per segment of ``segment_tokens`` words, and the share of different texts.

    Type counts grow with the sample, so they are counted on segments of one size and averaged; the segments, unlike
    resampled texts, repeat nothing, so that their bootstrap is not biased (ours; mean segmental type-token ratio).
    """

    def over(values: Sequence[float] | Float[np.ndarray, " N"]) -> Estimate:
        return mean_estimate(values, resamples=resamples, seed=seed)

    # One segment at a time: the words of all texts take ten times the texts.
    parts = [
        (distinct(part, 1), distinct(part, 3), float(len(set(part)))) for part in segments(texts, segment_tokens, seed)
    ]
    return {
        "distinct_1": over([first for first, _, _ in parts]),
        "distinct_3": over([third for _, third, _ in parts]),
        "vocabulary": over([size for _, _, size in parts]),
        "unique": over(uniqueness(texts)),
    }


def reference_quality(
    texts: Sequence[str], references: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Mean token F1 and ROUGE-L of texts against people's versions of them. Raises ValueError for unequal lengths."""
    pairs = list(zip(texts, references, strict=True))
    return {
        "token_f1": mean_estimate([token_f1(a, b) for a, b in pairs], resamples=resamples, seed=seed),
        "rouge_l": mean_estimate([rouge_l(a, b) for a, b in pairs], resamples=resamples, seed=seed),
    }
