"""Scores of one text against another, and of how varied many texts are.

Words are lower-case runs of letters and digits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
from jaxtyping import Float

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def token_f1(text: str, reference: str) -> float:
    """F1 of the two bags of words, in [0, 1]; 1 where both are empty (as in SQuAD, Rajpurkar et al. 2016)."""
    written, wanted = Counter(words(text)), Counter(words(reference))
    if not written or not wanted:
        return float(written == wanted)
    hits = (written & wanted).total()
    return 2.0 * hits / (written.total() + wanted.total())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, ROUGE-L with beta 1), in [0, 1]."""
    written, wanted = words(text), words(reference)
    if not written or not wanted:
        return float(written == wanted)
    best = [0] * (len(wanted) + 1)
    for word in written:
        diagonal = 0
        for index, other in enumerate(wanted, 1):
            above = best[index]
            best[index] = diagonal + 1 if word == other else max(above, best[index - 1])
            diagonal = above
    return 2.0 * best[-1] / (len(written) + len(wanted))


def segments(texts: Sequence[str], size: int, seed: int) -> Iterator[list[str]]:
    """All words in a shuffled order of the texts, cut into segments of ``size``, one at a time.

    A shorter rest is left out, unless it is all.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    stream = chain.from_iterable(words(texts[index]) for index in order)
    first = list(islice(stream, size))
    segment = first
    while len(segment) == size:
        yield segment
        segment = list(islice(stream, size))
    if segment is first and first:
        yield first


def distinct(segment: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams of a segment (distinct-n, Li et al. 2016), in [0, 1]."""
    grams = list(zip(*(segment[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 0.0


def uniqueness(texts: Sequence[str]) -> Float[np.ndarray, " N"]:
    """One over each text's number of occurrences, (N,); the mean is the share of different texts."""
    counts = Counter(texts)
    return np.array([1.0 / counts[text] for text in texts], dtype=np.float64)
