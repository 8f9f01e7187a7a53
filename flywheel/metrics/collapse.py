"""Signs that a wheel which learns from its own text narrows: figures of samples of one size, comparable over rounds.

Each figure is the mean over half-samples drawn without replacement. Their standard deviation is the standard error of
the figure on the whole sample. Half-sampling, unlike a bootstrap, repeats no text and so leaves counts of types
unbiased.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.core.types import Estimate
from flywheel.metrics.text import distinct, words

#: Texts as lists of words.
Tokens = Sequence[Sequence[str]]
#: A text's counts of 1-grams to 4-grams.
Grams = Sequence[Counter[tuple[str, ...]]]
#: Which change of a figure is bad.
Bad = Literal["less", "more", "either"]

_WIDTH = 2048
#: Texts of a half-sample that pairwise distances are computed of: their kernel is dense.
_MOST_PAIRED = 400


def collapse_figures(
    texts: Sequence[str],
    *,
    origin: Sequence[str] = (),
    human: Sequence[str] = (),
    most: int = 1000,
    halves: int = 24,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Measure at most ``most`` of the texts; nothing of fewer than eight.

    ``origin`` are texts that came with the videos, ``human`` people's. ``from_origin``, ``from_human`` and ``unknown``
    are measured only where there are more than three of these.
    """
    sample = [words(text) for text in texts[:most]]
    size = len(sample) // 2
    if size < 4:
        return {}
    rng = np.random.default_rng(seed)
    references = {
        name: _unigrams([words(text) for text in others])
        for name, others in (("from_origin", origin), ("from_human", human))
        if len(others) > 3
    }
    vocabulary = {word for counts in references.values() for word in counts}
    grams, points = grams_of(sample), points_of(sample)
    rows = []
    for _ in range(halves):
        drawn = rng.permutation(len(sample))[:size]
        half = [sample[i] for i in drawn]
        row = {name: figure(half) for name, figure in _FIGURES.items()}
        row["self_bleu"] = self_bleu([grams[i] for i in drawn])
        row |= dict(zip(("vendi", "spread"), vendi_and_spread(points[drawn[:_MOST_PAIRED]]), strict=True))
        row |= {name: jensen_shannon(_unigrams(half), counts) for name, counts in references.items()}
        if references:
            row["unknown"] = _unknown(half, vocabulary)
        rows.append(row)
    return {name: _estimate([row[name] for row in rows], len(sample)) for name in rows[0]}


def _estimate(halves: Sequence[float], count: int) -> Estimate:
    values = np.array(halves)
    value, error = float(values.mean()), 1.96 * float(values.std(ddof=1))
    return Estimate(value=value, low=value - error, high=value + error, n=count)


def grams_of(texts: Tokens) -> list[Grams]:
    """Count each text's 1-grams to 4-grams."""
    return [[Counter(zip(*(t[i:] for i in range(n)), strict=False)) for n in range(1, 5)] for t in texts]


def self_bleu(texts: Sequence[Grams]) -> float:
    """Mean BLEU-4 of each text against all others, in [0, 1].

    Zhu et al. 2018: clipped counts, add-one smoothed above unigrams, no brevity penalty.
    """
    precisions = np.zeros((len(texts), 4))
    for n in range(4):
        # Of each gram: the highest count in one text, that text, and the highest count in any other text.
        best: dict[tuple[str, ...], tuple[int, int, int]] = {}
        for index, counts in enumerate(texts):
            for gram, count in counts[n].items():
                first, text, second = best.get(gram, (0, -1, 0))
                best[gram] = (count, index, first) if count > first else (first, text, max(second, count))
        for index, counts in enumerate(texts):
            total = sum(counts[n].values())
            kept = sum(min(count, best[g][2] if best[g][1] == index else best[g][0]) for g, count in counts[n].items())
            precisions[index, n] = (kept + (n > 0)) / (total + (n > 0)) if total + (n > 0) else 0.0
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(precisions).mean(1)).mean())


def points_of(texts: Tokens) -> NDArray[np.float32]:
    """Texts as unit vectors, shape (texts, _WIDTH): roots of hashed counts of words and pairs of words."""
    points = np.zeros((len(texts), _WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        for gram in [*text, *map(" ".join, itertools.pairwise(text))]:
            points[row, _hash(gram)] += 1.0
    points = np.sqrt(points)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return points


def vendi_and_spread(points: NDArray[np.float32]) -> tuple[float, float]:
    """Vendi score over the number of texts, in (0, 1], and the mean cosine distance of two texts.

    ``points`` are unit vectors, shape (texts, width). The Vendi score (Friedman & Dieng 2023) is the exponential of the
    entropy of the kernel's eigenvalues, from 1 to the number of texts.
    """
    kernel = points @ points.T
    n = len(points)
    values = np.clip(scipy.linalg.eigvalsh(kernel.astype(np.float64) / n), 0, None)
    values = values[values > 1e-12]
    spread = 1.0 - float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
    return float(np.exp(-(values * np.log(values)).sum())) / n, spread


def _hash(gram: str) -> int:
    # FNV-1a: Python's own hash differs from process to process.
    value = 0xCBF29CE484222325
    for byte in gram.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value % _WIDTH


def jensen_shannon(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Jensen-Shannon divergence of two distributions of words, in bits, in [0, 1]; nan where one is empty."""
    names = sorted({*a, *b})
    both = [np.array([c.get(name, 0) for name in names], dtype=np.float64) for c in (a, b)]
    if not all(x.sum() for x in both):
        return float("nan")
    return float(scipy.spatial.distance.jensenshannon(*both, base=2)) ** 2


def _unigrams(texts: Tokens) -> Counter[str]:
    return Counter(word for text in texts for word in text)


def _distinct(n: int) -> Callable[[Tokens], float]:
    return lambda texts: distinct([word for text in texts for word in text], n)


def _vocabulary(texts: Tokens) -> float:
    """Different words over the root of the number of words (Guiraud's index), which texts' length changes little."""
    stream = [word for text in texts for word in text]
    return len(set(stream)) / math.sqrt(len(stream)) if stream else 0.0


def _repetition(texts: Tokens) -> float:
    """Mean share of a text's 3-grams that stand in it before."""
    return float(np.mean([1.0 - distinct(text, 3) if len(text) > 2 else 0.0 for text in texts]))


def _unknown(texts: Tokens, vocabulary: Set[str]) -> float:
    """Share of words outside the vocabulary of given and human texts.

    A wheel that widens by learning its own slips invents such words.
    """
    stream = [word for text in texts for word in text]
    return sum(word not in vocabulary for word in stream) / len(stream) if stream else 0.0


def _top_phrase(texts: Tokens) -> float:
    """Share of texts that hold the most common 4-gram."""
    counts = Counter(gram for text in texts for gram in set(zip(*(text[i:] for i in range(4)), strict=False)))
    return max(counts.values(), default=0) / len(texts)


def _unique(texts: Tokens) -> float:
    return len({tuple(text) for text in texts}) / len(texts)


def _length(texts: Tokens) -> float:
    return float(np.mean([len(text) for text in texts]))


_FIGURES: Mapping[str, Callable[[Tokens], float]] = {
    "distinct_1": _distinct(1),
    "distinct_3": _distinct(3),
    "vocabulary": _vocabulary,
    "unique": _unique,
    "repetition": _repetition,
    "top_phrase": _top_phrase,
    "length": _length,
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a change of a figure counts.

    ``bad`` is the direction that is worse. A change must exceed ``sigmas`` of the figure's noise, which is at least
    ``least_noise``: of shares near 0 no half-sample may differ from another. With ``from_base`` the untrained model's
    value is a yardstick too. That is right for distances from the corpus's and people's texts, from which no training
    on them leads away.
    """

    bad: Bad
    sigmas: float = 4.0
    from_base: bool = False
    least_noise: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure's last value, the best one before it, and how many sigmas lie between."""

    value: float
    best: float
    sigmas: float


def changes(
    series: Sequence[Mapping[str, Estimate]],
    rules: Mapping[str, Rule],
    *,
    base: Mapping[str, Estimate] | None = None,
    least: float = 0.05,
) -> dict[str, Change]:
    """Return the figures whose last value is worse than the best before it by more than noise.

    ``series`` are rounds' figures, oldest first; ``base`` the untrained model's. Figures without a rule are left out,
    and so are those without two earlier values, or one of the base for a rule that takes it.
    A change must also exceed ``least`` of the best value (ours).
    """
    out: dict[str, Change] = {}
    for name, rule in rules.items() if series else ():
        start = base[name] if rule.from_base and base is not None and _has(base, name) else None
        estimates = [figures[name] for figures in series if _has(figures, name)]
        if not _has(series[-1], name) or len(estimates) < (3 if start is None else 1):
            continue
        value, best = estimates[-1].value, _best([e.value for e in estimates[:-1]], start, rule.bad)
        noise = _noise(estimates, start, rule.least_noise)
        change = {"less": best - value, "more": value - best, "either": abs(value - best)}[rule.bad]
        if change > rule.sigmas * noise and change > least * max(abs(best), 1e-9):
            out[name] = Change(value=value, best=best, sigmas=change / noise)
    return out


def _noise(estimates: Sequence[Estimate], start: Estimate | None, least: float) -> float:
    """The usual change from round to round, at least the standard error of the last one.

    Usual is 1.48 x MAD of the steps before the last, so that a common drift is no noise. It counts from the sixth value
    on: of fewer steps the median says little, and a collapse that speeds up would pass for noise.
    """
    steps = np.diff([e.value for e in estimates[:-1]])
    usual = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) if len(steps) > 3 else 0.0
    earlier = [start] if start is not None else []
    error = math.hypot(*((e.high - e.low) / 3.92 for e in [*earlier, *estimates][-2:]))
    return max(usual, error, least, 1e-9)


def _best(past: Sequence[float], start: Estimate | None, bad: Bad) -> float:
    """The best of the earlier values (the second best of three and more) and of the base's.

    One round alone, such as a first one whose noise was still to be unlearned, is no yardstick.
    """
    ordered = np.sort(past)
    place = min(1, max(0, len(ordered) - 2))
    yardsticks = [] if start is None else [start.value]
    if len(ordered):
        yardsticks.append(
            float({"less": ordered[-1 - place], "more": ordered[place], "either": np.median(ordered)}[bad])
        )
    return max(yardsticks) if bad == "less" else min(yardsticks)


def _has(figures: Mapping[str, Estimate], name: str) -> bool:
    return name in figures and not math.isnan(figures[name].value)
