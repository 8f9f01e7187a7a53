"""Whose sound a picture is judged with to see what a wrong pair looks like: a clip's that shows something else."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"[^\W\d_]+")
#: Sounds of one clip are heard with so many pictures at most: controls should be many sounds.
_MOST_USES = 4


def most_unlike(
    others: Mapping[str, Sequence[str]], texts: Mapping[str, str], lent: Iterable[str] = ()
) -> dict[str, str]:
    """For each clip, of the ``others`` that it may be paired with the one whose text is least like its own.

    ``texts`` say what is seen, by clip; a clip without one is paired with none, and lends its sound to none. Of two
    that are as unlike the first is taken. ``lent`` are clips whose sounds others have already, each as often as it is.

    Another video's sound can belong to what is seen by chance, where both are of one theme; such a pair would pass for
    a wrong one, and whatever looks like it would be held against clips that are right.
    """
    words = {clip: frozenset(_WORD.findall(text.lower())) for clip, text in texts.items()}
    spread = Counter(word for said in words.values() for word in said)
    weights = {word: math.log(len(words) / count) for word, count in spread.items()}
    chosen: dict[str, str] = {}
    uses = Counter(lent)
    for clip, some in others.items():
        if free := [other for other in some if clip in words and other in words and uses[other] < _MOST_USES]:
            chosen[clip] = min(free, key=lambda other: _alike(words[clip], words[other], weights))
            uses[chosen[clip]] += 1
    return chosen


def _alike(one: frozenset[str], other: frozenset[str], weights: Mapping[str, float]) -> float:
    """How much of what two texts say is said by both, in [0, 1]; words that all texts have weigh nothing."""
    # Sorted: sums of the same numbers in another order differ in the last digits.
    both, either = (sum(weights[word] for word in sorted(words)) for words in (one & other, one | other))
    return both / either if either else 0.0
