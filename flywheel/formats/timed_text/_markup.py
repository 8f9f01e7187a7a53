"""Words without the signs that tell a player how to show them: tags, override blocks, drawings, entities."""

from __future__ import annotations

import html
import re

from flywheel.core.foreign import without_hidden

# Tags that players know, and no other "<": people write it as a sign. No tag holds the sign that begins one, else each
# of many such signs would be followed to the end of the text.
_ATTRIBUTES = r"(?:[.\s][^<>]{0,1000})?"
_TAG = re.compile(
    rf"</?(?:c|v|lang|font|span|p|div|ruby|rt|rp|tt){_ATTRIBUTES}\s?/?>"
    r"|</?(?:b|i|u|s|em|strong|strike|big|small|center|sub|sup)(?:\.[^<>\s]{0,1000})?\s?/?>"
    r"|</?(?:b|i|u|s)\s[^<>=]{0,100}=[^<>]{0,1000}>"
    r"|<(?:\d{1,5}:)?\d{1,2}:\d{2}[.,]\d{1,3}>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s{0,9}/?>", re.IGNORECASE)
#: Override blocks of ASS, as they also stand in SRT, and those of MicroDVD: ``{\an8}``, ``{b}``, ``{y:i}``.
_BLOCK = re.compile(r"\{(\\[^{}]*)\}|\{/?[biusBIUS]\}|\{[yYcCfFsSPoH]:[^{}]{1,100}\}")
#: One that its writer did not close.
_OPEN_BLOCK = re.compile(r"\{\\an?\d{1,2}\}?")
_DRAWING = re.compile(r"\\p(\d{1,3})(?!\w)")
#: A drawing whose marks another program took out: points of a path, which nobody says.
_SHAPE = re.compile(
    r"m(?: -?\d{1,6}(?:\.\d{1,6})?){2}(?: [lbsnmp](?: -?\d{1,6}(?:\.\d{1,6})?){2,300}| c(?= |$)){1,2000}"
)
#: Breaks and hard blanks, but not within a path of Windows, or the name of a TeX command.
_ESCAPE = re.compile(r"((?<!\w)[A-Za-z]:\\\S*|\\\\\w\S*)|\\N|\\[nh](?!abla|eq\b|ot\b|u\b|at\b|bar\b|line\b)")
#: References end in ``;``: without it "R&D" and "AT&T" are what people wrote.
#: References to characters that there are not, with more digits than Python reads.
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")
_REFERENCE = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def plain_lines(raw: str) -> tuple[str, ...]:
    """The lines of a text as a viewer reads them, blanks folded, without empty ones."""
    if "{" in raw:
        raw = _without_blocks(raw)
    if "\\" in raw:
        raw = _ESCAPE.sub(lambda match: match[1] or ("\n" if match[0] == "\\N" else " "), raw)
    if "<" in raw:
        raw = _TAG.sub("", _BREAK.sub("\n", raw))
    if " l " in raw or " b " in raw:
        raw = _SHAPE.sub(" ", raw)
    if "&" in raw:
        raw = _REFERENCE.sub(_character, _LONG_REFERENCE.sub("\ufffd", raw))
    lines = (" ".join(without_hidden(line).split()) for line in raw.split("\n"))
    return tuple(line for line in lines if line)


def _character(reference: re.Match[str]) -> str:
    character = html.unescape(reference[0])
    return " " if character == "\n" else character


def _without_blocks(raw: str) -> str:
    """The text without override blocks, and without what is drawn between those that begin and end a drawing."""
    parts: list[str] = []
    end, is_drawn = 0, False
    for block in _BLOCK.finditer(raw):
        if not is_drawn:
            parts.append(raw[end : block.start()])
        if block[1] is not None and (drawing := _DRAWING.findall(block[1])):
            is_drawn = int(drawing[-1]) > 0
        end = block.end()
    if not is_drawn:
        parts.append(raw[end:])
    return _OPEN_BLOCK.sub("", "".join(parts))
