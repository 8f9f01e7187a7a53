"""The option that a reply names, read strictly: what can't be told is no answer, and never a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from flywheel.benchmark.items import LETTERS
from flywheel.benchmark.wording import folded
from flywheel.kinds import Unusable, cleaned_words

#: No option was named, or several were.
UNPARSED = -1
#: A right answer of more words is a text that none but a judge can compare.
_MOST_WORDS = 4
_LAST = LETTERS[-1]
_LETTER = f"[A-{_LAST}]"
#: The whole reply is a letter, whatever stands around it.
_ALONE = re.compile(rf"[\W_]*(?:option|answer)?[\W_]*([A-{_LAST}a-{_LAST.lower()}])[\W_]*\Z", re.I)
#: A letter that is set off, or has its line for itself: ``B. a dog``, ``(B) a dog``.
_SET_OFF = rf"[\s*#>\"']*(?:\(({_LETTER})\)|({_LETTER})(?:\s?[.):：](?=\s|\*|\Z)|[ \t*]*$))"
#: It begins with one.
_FIRST = re.compile(rf"{_SET_OFF}[\s*]*(.*)\Z", re.S | re.M)
#: A line begins with one.
_LISTED = re.compile(rf"^{_SET_OFF}", re.M)
#: Statements of an answer, of which each must name the same.
_STATED = re.compile(
    r"(?:\b(?:answer|option|choice)\s*(?:is|:|=|would be)+\s*(?:option|choice|letter)?"
    rf"|\\boxed|<answer>)[\s*:({{\"'\[]*({_LETTER})\b(?!['’])"
    # One of two is none.
    rf"(?![\s*)\]]*(?:/|or\b|and\b)[\s*(\[]*(?-i:[A-H{_LAST}])\b)",
    re.I,
)


def chosen(text: str, options: Sequence[str]) -> int:
    """The place of the option that a reply names, :data:`UNPARSED` where it names none or several.

    A reply names an option by its letter alone, by a letter that is set off at its beginning, by a statement such as
    "the answer is B", as JSON with an ``answer``, or by an option's own words. Thoughts before it are no part of it.
    """
    try:
        reply = cleaned_words(text)
    except Unusable:
        return UNPARSED
    found = _named(reply, options)
    return found.pop() if len(found) == 1 else UNPARSED


def agreed(text: str, references: Sequence[str]) -> int:
    """0 where a reply is one of the right answers, 1 where it is another, :data:`UNPARSED` where it says nothing."""
    try:
        words = folded(cleaned_words(text))
    except Unusable:
        return UNPARSED
    if not words:
        return UNPARSED
    return 0 if words in {folded(right) for right in references} else 1


def is_comparable(references: Sequence[str]) -> bool:
    """Whether one of the right answers is so short that a reply can be compared with it word for word."""
    return any(len(words.split()) <= _MOST_WORDS for words in references)


def _named(text: str, options: Sequence[str]) -> set[int]:
    """The options that a text names, by the first of the ways that finds any."""
    for way in (_by_letter_alone, _by_words, _by_first_letter, _by_json, _by_statements):
        if found := way(text, options):
            return found
    return set()


def _by_words(text: str, options: Sequence[str]) -> set[int]:
    words = folded(text)
    return {place for place, option in enumerate(options) if folded(option) == words}


def _by_letter_alone(text: str, options: Sequence[str]) -> set[int]:
    match = _ALONE.match(text)
    # Where options are letters themselves, one that is no place may be an option's own word.
    return _places([match[1]], options) - {UNPARSED} if match else set()


def _by_first_letter(text: str, options: Sequence[str]) -> set[int]:
    match = _FIRST.match(text)
    if match is None:
        return set()
    rest = match[3]
    letters = [match[1] or match[2], *(one or other for one, other in _LISTED.findall(rest))]
    if letters == list(LETTERS[: len(options)]):
        # The options said again name none; what stands behind them may.
        return set()
    # A letter beside another option's words, or another letter, names both.
    return _places(letters, options) | _by_words(rest, options) | _by_statements(rest, options)


def _by_json(text: str, options: Sequence[str]) -> set[int]:
    try:
        value = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return set()
    answer = value.get("answer", value.get("option")) if isinstance(value, dict) else None
    return _named(answer, options) if isinstance(answer, str) and "{" not in answer else set()


def _by_statements(text: str, options: Sequence[str]) -> set[int]:
    return _places([letter for letter in _STATED.findall(text) if letter.isupper()], options)


def _places(letters: Sequence[str], options: Sequence[str]) -> set[int]:
    """The places of letters; of one that is no option, a place that is none, so that it stands against the others."""
    places = {LETTERS.index(letter.upper()) for letter in letters}
    return {place if place < len(options) else UNPARSED for place in places}
