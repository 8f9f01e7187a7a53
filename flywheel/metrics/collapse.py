"""Signs that a wheel which learns from its own text narrows: figures of samples of one size, so that rounds can be compared.

Each figure is the mean over half-samples drawn without replacement; their standard deviation is the standard error of the figure on the whole sample (half-sampling,
which, unlike a bootstrap, repeats no text and so leaves counts of types unbiased).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, spatial

from flywheel.core.types import Estimate
from flywheel.metrics.text import distinct, words

Tokens = Sequence[Sequence[str]]
#: A text's counts of 1-grams to 4-grams.
Grams = Sequence[Counter[tuple[str, ...]]]

#: Figure -> which way is bad: less, more, or either.
BAD: Mapping[str, str] = {
    "distinct_1": "less", "distinct_3": "less", "vocabulary": "less", "vendi": "less", "spread": "less", "unique": "less", "self_bleu": "more",
    "repetition": "more", "top_phrase": "more", "length": "either", "from_origin": "more", "from_human": "more", "unknown": "more",
}  # fmt: skip

_WIDTH = 2048


def collapse_figures(
    texts: Sequence[str],
    *,
    origin: Sequence[str] = (),
    human: Sequence[str] = (),
    most: int = 1000,
    halves: int = 24,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The figures of :data:`BAD` of at most ``most`` of the texts; ``from_origin``, ``from_human`` and ``unknown`` only where there are texts to compare with."""
    sample = [words(text) for text in texts][:most]
    size = len(sample) // 2
    if size < 4:
        return {}
    rng = np.random.default_rng(seed)
    counts = {
        name: _unigrams([words(t) for t in given])
        for name, given in (("from_origin", origin), ("from_human", human))
        if len(given) > 3
    }
    known = {word for other in counts.values() for word in other}
    grams, points = grams_of(sample), points_of(sample)
    rows = []
    for _ in range(halves):
        drawn = rng.permutation(len(sample))[:size]
        half = [sample[i] for i in drawn]
        found = {name: figure(half) for name, figure in _FIGURES.items()}
        found["self_bleu"] = self_bleu([grams[i] for i in drawn])
        found |= dict(zip(("vendi", "spread"), vendi_and_spread(points[drawn[:400]]), strict=True))
        found |= {name: jensen_shannon(_unigrams(half), other) for name, other in counts.items()}
        if counts:
            found["unknown"] = _unknown(half, known)
        rows.append(found)
    out = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        value, error = float(values.mean()), 1.96 * float(values.std(ddof=1))
        out[name] = Estimate(value=value, low=value - error, high=value + error, n=len(sample))
    return out


def grams_of(texts: Tokens) -> list[Grams]:
    return [[Counter(zip(*(t[i:] for i in range(n)), strict=False)) for n in range(1, 5)] for t in texts]


def self_bleu(texts: Sequence[Grams]) -> float:
    """Mean BLEU-4 of each text against all others (Zhu et al. 2018; clipped counts, add-one smoothed above unigrams, no brevity penalty), in [0, 1]."""
    precisions = np.zeros((len(texts), 4))
    for n in range(4):
        # The most that any text says each, and the most that any other than that one does.
        best: dict[tuple[str, ...], tuple[int, int, int]] = {}
        for index, mine in enumerate(texts):
            for gram, count in mine[n].items():
                first, who, second = best.get(gram, (0, -1, 0))
                best[gram] = (count, index, first) if count > first else (first, who, max(second, count))
        for index, mine in enumerate(texts):
            total = sum(mine[n].values())
            kept = sum(min(count, best[g][2] if best[g][1] == index else best[g][0]) for g, count in mine[n].items())
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
    """Vendi score (Friedman & Dieng 2023: the exponential of the entropy of the kernel's eigenvalues, from 1 to the number of texts) over it, so in (0, 1],
    and the mean cosine distance of two texts; of unit vectors."""
    kernel = points @ points.T
    n = len(points)
    values = np.clip(linalg.eigvalsh(kernel.astype(np.float64) / n), 0, None)
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
    """Jensen-Shannon divergence of two distributions of words, in bits, in [0, 1]."""
    names = sorted({*a, *b})
    both = [np.array([c.get(name, 0) for name in names], dtype=np.float64) for c in (a, b)]
    if not all(x.sum() for x in both):
        return float("nan")
    return float(spatial.distance.jensenshannon(*both, base=2)) ** 2


def _unigrams(texts: Tokens) -> Counter[str]:
    return Counter(word for text in texts for word in text)


def _stream(n: int) -> Callable[[Tokens], float]:
    return lambda texts: distinct([word for text in texts for word in text], n)


def _vocabulary(texts: Tokens) -> float:
    """Different words of a stream of the texts, by the root of its length (Guiraud's index): of one law whatever the texts' length."""
    stream = [word for text in texts for word in text]
    return len(set(stream)) / math.sqrt(len(stream)) if stream else 0.0


def _repetition(texts: Tokens) -> float:
    """Mean share of a text's 3-grams that it said before."""
    return float(np.mean([1.0 - distinct(text, 3) if len(text) > 2 else 0.0 for text in texts]))


def _unknown(texts: Tokens, known: Set[str]) -> float:
    """Share of the words that neither what came with the videos nor people ever said: a wheel that widens, learning its own slips, invents them."""
    stream = [word for text in texts for word in text]
    return sum(word not in known for word in stream) / len(stream) if stream else 0.0


def _top_phrase(texts: Tokens) -> float:
    """Share of texts that hold the most common 4-gram."""
    counts = Counter(gram for text in texts for gram in set(zip(*(text[i:] for i in range(4)), strict=False)))
    return max(counts.values(), default=0) / len(texts)


def _unique(texts: Tokens) -> float:
    return len({tuple(text) for text in texts}) / len(texts)


def _length(texts: Tokens) -> float:
    return float(np.mean([len(text) for text in texts]))


_FIGURES: Mapping[str, Callable[[Tokens], float]] = {
    "distinct_1": _stream(1), "distinct_3": _stream(3), "vocabulary": _vocabulary, "unique": _unique,
    "repetition": _repetition, "top_phrase": _top_phrase, "length": _length,
}  # fmt: skip


#: Figures that say how far texts are from the corpus's and people's: of these the base model's own are a yardstick too, since no training on the corpus leads away from it.
DISTANCES = frozenset({"from_origin", "from_human", "unknown"})
#: Least noise of shares that are near 0, where no half-sample may differ from another.
_LEAST_NOISE: Mapping[str, float] = {"unknown": 0.0025, "repetition": 0.0025}


def changes(
    series: Sequence[Mapping[str, Estimate]],
    *,
    base: Mapping[str, Estimate] | None = None,
    sigmas: float = 4.0,
    least: float = 0.05,
    names: Collection[str] = tuple(BAD),
) -> dict[str, dict[str, float]]:
    """What of the last of a series is worse than the best before it (the second best of three and more) by more than noise: figure -> ``value``, ``best``, ``sigmas``.

    ``base``, the untrained model's figures, is a yardstick as it stands, for :data:`DISTANCES`. The noise of a figure is what its change from one to the next usually is once
    their common drift is taken off (median absolute deviation, from the sixth on), and at least the standard error of such a change; a change must be over ``sigmas`` of it,
    and over ``least`` of the best value. Needs two before it, or the base (ours).
    """
    found: dict[str, dict[str, float]] = {}
    for name in names if series else ():
        known = [s[name] for s in series if _has(s, name)]
        first = [base[name]] if base is not None and _has(base, name) else []
        if not _has(series[-1], name) or len(known) < (1 if first else 3):
            continue
        values: NDArray[np.float64] = np.array([e.value for e in known])
        steps = np.diff(values[:-1])
        # Of fewer steps the median says little, and a collapse that speeds up would pass for noise.
        usual = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) if len(steps) > 3 else 0.0
        error = math.hypot(*((e.high - e.low) / 3.92 for e in [*first, *known][-2:]))
        noise = max(usual, error, _LEAST_NOISE.get(name, 1e-9))
        # The second best of three and more: one round alone, such as a first one whose noise was still to be unlearned, is no yardstick.
        past = np.sort(values[:-1])
        place = min(1, max(0, len(past) - 2))
        yardsticks = [e.value for e in first]
        bad = BAD[name]
        if len(past):
            yardsticks.append(float({"less": past[-1 - place], "more": past[place], "either": np.median(past)}[bad]))
        best = max(yardsticks) if bad == "less" else min(yardsticks)
        change = {"less": best - values[-1], "more": values[-1] - best, "either": abs(values[-1] - best)}[bad]
        if change > sigmas * noise and change > least * max(abs(best), 1e-9):
            found[name] = {"value": float(values[-1]), "best": float(best), "sigmas": float(change / noise)}
    return found


def _has(figures: Mapping[str, Estimate], name: str) -> bool:
    return name in figures and not math.isnan(figures[name].value)
