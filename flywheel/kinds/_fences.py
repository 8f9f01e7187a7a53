"""Fences of code around a text: where what they hold stands. Each reads a text once, whatever it holds."""

from __future__ import annotations

import re

from flywheel.kinds._cutting import Span

_OPENING = re.compile(r"\s*(?P<mark>`{3,}+|~{3,}+)[ \t]*+[\w+-]{0,20}[ \t]*+\n?")
_MARK = re.compile(r"(?<!`)`{3,}+")
_JSON = re.compile(r"[ \t]*+(?:json|JSON)?[ \t]*+\n")


def around(text: str) -> Span | None:
    """The span of what a fence round the whole text holds; None where there is none."""
    opening = _OPENING.match(text)
    if opening is None:
        return None
    mark, end = opening["mark"], len(text.rstrip())
    inner_end = end - len(mark)
    closes = inner_end >= opening.end() and text.endswith(mark, 0, end) and text[inner_end - 1 : inner_end] != mark[0]
    if not closes:
        return None
    if text[inner_end - 1 : inner_end] == "\n" and inner_end > opening.end():
        inner_end -= 1
    return opening.end(), inner_end


def of_json(text: str) -> list[Span]:
    """The spans of what fences within the text hold, those of JSON or without a language."""
    spans: list[Span] = []
    began, opened = -1, ""
    for found in _MARK.finditer(text):
        line = text.rfind("\n", max(0, found.start() - 80), found.start())
        if began < 0:
            if (head := _JSON.match(text, found.end())) is not None:
                began, opened = head.end(), found[0]
        elif found[0].startswith(opened) and line >= began and not text[line : found.start()].strip():
            spans.append((began, line))
            began = -1
    return spans
