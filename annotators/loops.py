"""Loops: what a model says again and again, in scripts with and without spaces, counted or not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

#: How often in a row makes a loop, and how many words (or characters, where words are not told apart) it must cover.
_REPEATS, _COVERED_WORDS, _COVERED_CHARACTERS = 3, 12, 24
#: One character so often in a row.
_CHARACTER_RUN = re.compile(r"([^\s.\-_=*~…—–・·])\1{11,}")
#: Scripts that are written without spaces: Thai to Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
#: A word without spaces that is longer than any word is looked at by its characters.
_LONG_WORD = re.compile(r"\S{40,}")
#: What counts sentences: numbers, also with marks or as words, become one and the same.
_COUNTER = re.compile(r"\W*\d[\d\W]*[a-z]{0,2}\W*\Z|\W*(?:[ivx]{1,5}|[a-z])[.)]\W*\Z", re.A)
_NUMBER_WORDS = frozenset(
    (
        *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
        *("firstly", "secondly", "thirdly"),
    )
)
_DIGITS = re.compile(r"\d+(?:[.:]\d+)*|[一二三四五六七八九十百]+(?=[、，．.：:）)])")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？\n])\s*")
_COUNT = "#"


def loop_of(text: str) -> str:
    """The part that a text repeats; empty where it is no loop.

    A loop is a group of words that comes three times or more in a row and covers twelve words (or half of a shorter
    text of at least four), of characters in scripts without spaces 24; numbers that count its turns may differ. A
    sentence that fills half of a text and comes four times is one too. Takes time in proportion to the length.
    """
    if _CHARACTER_RUN.search(text):
        return "one character"
    words = text.lower().split()
    return looped(words) or _counted(words) or _unspaced(text) or _sentences(text)


def looped(words: Sequence[str]) -> str:
    """The words of a loop, empty where there is none."""
    count = len(words)
    found = _loop(words, min(_COVERED_WORDS, max(4, count // 2)))
    return "" if found is None else " ".join(words[slice(*found)])


def _counted(words: Sequence[str]) -> str:
    """The words of a loop whose turns are counted."""
    plain = [_COUNT if _COUNTER.match(w) or w.strip(".,:;)-") in _NUMBER_WORDS else w for w in words]
    if plain.count(_COUNT) < _REPEATS:
        return ""
    found = _loop(plain, _COVERED_WORDS)
    # Somebody may count, or name the score of a game.
    if found is None or len(set(plain[slice(*found)]) - {_COUNT}) < 2:
        return ""
    return " ".join(words[slice(*found)])


def _unspaced(text: str) -> str:
    """The characters of a loop in a script without spaces, or within one word that is none."""
    written = len(_UNSPACED.findall(text))
    parts = ["".join(text.split())] if written * 3 > sum(map(str.isalpha, text)) else _LONG_WORD.findall(text)
    for part in parts:
        characters = list(_DIGITS.sub(_COUNT, part.lower()))
        least = min(_COVERED_CHARACTERS, max(8, len(characters) // 2))
        found = _loop(characters, least)
        if found is not None and any(map(str.isalpha, turn := characters[slice(*found)])):
            return "".join(turn)
    return ""


def _sentences(text: str) -> str:
    """A sentence of four words or more that comes four times and fills half of the text."""
    sentences = [" ".join(s.lower().split()) for s in _SENTENCE_END.split(text)]
    counts = Counter(s for s in sentences if s.count(" ") >= 3 or len(_UNSPACED.findall(s)) >= 6)
    if not counts:
        return ""
    sentence, count = max(counts.items(), key=lambda item: item[1] * len(item[0]))
    return sentence if count > _REPEATS and 2 * count * len(sentence) >= sum(map(len, sentences)) else ""


def _loop(units: Sequence[Hashable], least: int) -> tuple[int, int] | None:
    """Begin and end of one turn of the loop with the shortest turn that covers ``least`` units; None without one.

    Prefix doubling: groups of 1, 2, 4, … units get numbers, made of two numbers of half the length. In a loop whose
    turn is of length d, with k the first of these lengths that is not below d, the nearest group before that is the
    same lies at distance d (a nearer one would make the turn itself a repetition, by Fine and Wilf). It ends at the
    first k of which no two groups are the same: a text without repetitions is gone through two or three times.
    """
    ids: list[int] = _numbered(units)
    size = 1
    while size + size // 2 < len(units):
        if (found := _repeated(ids, size, least)) is not None:
            return found
        if len(set(ids)) == len(ids):
            return None
        ids = _numbered(list(zip(ids, ids[size:], strict=False)))
        size *= 2
    return None


def _numbered(values: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _repeated(ids: Sequence[int], size: int, least: int) -> tuple[int, int] | None:
    """One turn of a loop whose turn is longer than half of ``size`` units and no longer than that."""
    last: dict[int, int] = {}
    found: tuple[int, int] | None = None
    run = before = 0
    for index, number in enumerate(ids):
        distance = index - last.get(number, index)
        last[number] = index
        run = run + 1 if distance == before else 1
        before = distance
        if not size < 2 * distance <= 2 * size:
            continue
        covered = size + distance + run - 1
        if covered >= _REPEATS * distance and covered >= least and (found is None or distance < found[1] - found[0]):
            end = index + size
            found = (end - distance, end)
    return found
