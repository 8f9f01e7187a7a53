"""Edits of a text that are on record: each quotes what it takes the place of, and the record gives the text anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Stands where words went, until the text is tidied.
_GAP = "\0"
_AROUND_GAP = re.compile(rf"(?P<before>[\s.,;:!?]*){_GAP}(?P<after>[\s.,;:!?{_GAP}]*)")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A text after its edits. ``log`` are those that were made, in the order of the text, each with its place in the
    text before (``start``, ``end``, in characters); ``refused`` those that were not, each with why."""

    text: str
    log: tuple[dict[str, Any], ...] = ()
    refused: tuple[dict[str, Any], ...] = field(default=())


def edited(text: str, edits: Iterable[Mapping[str, Any]]) -> Edited:
    """The text with each edit's ``quote`` replaced by its ``instead``, which may be empty; what can't be is refused.

    Of a quote that stands there several times the first place is meant that no other edit has.
    """
    log, refused, taken = list[dict[str, Any]](), list[dict[str, Any]](), list[tuple[int, int]]()
    for edit in edits:
        span = _place(text, str(edit["quote"]), taken)
        if span is None:
            refused.append({**edit, "why": "these words do not stand in the text, or another edit has them"})
            continue
        taken.append(span)
        log.append({**edit, "start": span[0], "end": span[1]})
    log.sort(key=lambda edit: edit["start"])
    return Edited(text=replayed(text, log), log=tuple(log), refused=tuple(refused))


def replayed(text: str, log: Iterable[Mapping[str, Any]]) -> str:
    """The text that the edits of a log make of the one before."""
    made, place, is_edited = "", 0, False
    for edit in log:
        instead, is_edited = str(edit.get("instead", "")), True
        made = made + text[place : edit["start"]] + (instead or _GAP)
        place = edit["end"]
    return _tidy(made + text[place:]) if is_edited else text


def _place(text: str, quote: str, taken: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Where a quote stands, without regard to case and white space."""
    words = quote.split()
    if not words:
        return None
    pattern = r"\s+".join(map(re.escape, words))
    # Whole words: a quoted "red" is not the end of "hundred".
    pattern = (r"(?<!\w)" if words[0][0].isalnum() else "") + pattern + (r"(?!\w)" if words[-1][-1].isalnum() else "")
    for match in re.finditer(pattern, text, re.IGNORECASE):
        if all(match.end() <= start or end <= match.start() for start, end in taken):
            return match.span()
    return None


def _tidy(text: str) -> str:
    """A text without the blanks and marks that words which went left behind; what nobody quoted stays as it is."""
    text = _AROUND_GAP.sub(_mended, text)
    text = " ".join(text.split())
    return text if any(letter.isalnum() for letter in text) else ""


def _mended(around: re.Match[str]) -> str:
    """What stays of the marks and blanks around words that went: the mark that ends a sentence, else the last one."""
    before, after = around["before"].strip(), around["after"].strip()
    if not around.string[: around.start()].strip():
        return ""
    marks = re.sub(rf"[\s{_GAP}]+", "", before + after)
    ends = [mark for mark in marks if mark in ".!?"]
    mark = ends[0] if ends else marks[-1:]
    return f"{mark} "
