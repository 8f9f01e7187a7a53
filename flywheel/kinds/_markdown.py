"""Markdown and HTML formatting: which characters of a text are marks and no words."""

from __future__ import annotations

import re

from flywheel.kinds._cutting import Cutting
from flywheel.kinds._marks import BLOCK_TAG, INLINE_TAG

_LINE_START = re.compile(r"^[ \t]{0,12}(?:(?:#{1,6}|>{1,3}|[-*+•‣▪◦●○–])[ \t]+)+(?=\S)|^[ \t]{0,12}#{1,6}[ \t]*$", re.M)
_RULE = re.compile(r"^[ \t]{0,12}(?:[-*_=][ \t]{0,2}){3,}$", re.M)
_FENCE = re.compile(r"^[ \t]{0,12}(?:```|~~~)[\w+-]{0,20}[ \t]*$|```[\w+-]{0,20}", re.M)
_TABLE_RULE = re.compile(r"^[ \t]{0,12}\|?(?:[ \t]{0,4}:?-{3,}:?[ \t]{0,4}\|)+(?:[ \t]{0,4}:?-{3,}:?)?[ \t]*$", re.M)
_TABLE_ROW = re.compile(r"^[ \t]{0,12}\|.*\|[ \t]*$", re.M)
#: Marks in pairs round the words of group ``inner``. A letter on both sides is a word that somebody made unreadable.
_EMPHASIS = (
    re.compile(r"(?<![A-Za-z*])(\*{2,3})(?=[^\s*])(?P<inner>.{1,2000}?)(?<=\S)\1(?![A-Za-z*])"),
    re.compile(r"(?<!\w)(_{2,3})(?=\S)(?P<inner>.{1,2000}?)(?<=\S)\1(?!\w)"),
    re.compile(r"(?<![\w*])\*(?=[^\s*])(?P<inner>[^*\n]{1,2000}?)(?<=[^\s*])\*(?![\w*])"),
    re.compile(r"(?<!\w)_(?=[^\s_])(?P<inner>[^_\n]{1,2000}?)(?<=[^\s_])_(?!\w)"),
    re.compile(r"~~(?=\S)(?P<inner>.{1,2000}?)(?<=\S)~~"),
    re.compile(r"(?<!`)(`{1,2})(?!`)(?P<inner>[^`\n]{1,2000}?)\1(?!`)"),
    re.compile(r"!?\[(?P<inner>[^\[\]\n]{0,200})\]\([^()\s]{1,500}\)"),
)
_UNPAIRED = re.compile(r"(?<![\w*])\*{2,4}(?=\w)|(?<=[.:!?,;])\*{2,4}(?![\w*])")
_ESCAPE = re.compile(r"\\(?=[_*#\[\]`~>])")
NAME = "markdown"


def cut_markdown(reply: Cutting) -> None:
    """Cut formatting marks out of a reply; its words stay. A text of marks alone is left as it is."""
    if not any(character.isalnum() for character in reply.text):
        return
    for pattern in (_RULE, _TABLE_RULE, _FENCE, _LINE_START):
        reply.cut_all(NAME, pattern)
    bars = [row.start() + i for row in _TABLE_ROW.finditer(reply.text) for i, c in enumerate(row[0]) if c == "|"]
    reply.cut(NAME, [(bar, bar + 1) for bar in bars])
    for pattern in _EMPHASIS:
        edges = []
        for match in pattern.finditer(reply.text):
            edges += [(match.start(), match.start("inner")), (match.end("inner"), match.end())]
        reply.cut(NAME, edges)
    reply.cut_all(NAME, _UNPAIRED)
    reply.cut_all(NAME, _ESCAPE)
    reply.cut_all(NAME, INLINE_TAG)
    reply.cut_all(NAME, BLOCK_TAG, gap=True)
