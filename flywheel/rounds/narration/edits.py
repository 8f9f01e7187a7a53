"""Edits of a text that are on record: each quotes what it takes the place of, and the record gives the text anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_BEFORE_MARK = re.compile(r"\s+([.,;:!?])")
_MARKS = re.compile(r"([.!?])(?:\s*[.,;:])+")
_COMMAS = re.compile(r"[,;:]+(?=\s*[.,;:!?])")


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
    parts, place = list[str](), 0
    for edit in log:
        parts += [text[place : edit["start"]], str(edit.get("instead", ""))]
        place = edit["end"]
    return _tidy("".join([*parts, text[place:]])) if parts else text


def _place(text: str, quote: str, taken: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Where a quote stands, without regard to case and white space."""
    words = quote.split()
    if not words:
        return None
    for match in re.finditer(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE):
        if all(match.end() <= start or end <= match.start() for start, end in taken):
            return match.span()
    return None


def _tidy(text: str) -> str:
    """A text without the blanks and marks that words left behind."""
    text = _BEFORE_MARK.sub(r"\1", " ".join(text.split()))
    text = _MARKS.sub(r"\1", _COMMAS.sub("", text)).strip().lstrip(".,;:!? ")
    return text if any(letter.isalnum() for letter in text) else ""
