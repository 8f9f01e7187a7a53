"""WebVTT: blocks between empty lines; what has no times is a style, a note or a name. Source: W3C WebVTT."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flywheel.formats.timed_text import _times
from flywheel.formats.timed_text._cues import Timed, timed
from flywheel.formats.timed_text._format import TimedTextFormat

_WORD_TIME = re.compile(r"<(?:\d{1,5}:)?\d{1,2}:\d{2}\.\d{1,3}>")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


def _read(text: str) -> Iterator[Timed]:
    span: tuple[float, float] | None = None
    lines: list[str] = []
    # In a style, a region or a note: nothing there is a cue, up to the empty line.
    is_aside = False
    for line in text.split("\n"):
        if is_aside:
            is_aside = bool(line)
            continue
        next_span = _times.span(line)
        if next_span is not None or not line:
            if span is not None:
                yield _cue(span, _without_name(lines) if next_span is not None else lines)
            span, lines = next_span, []
        elif span is not None:
            lines.append(line)
        else:
            is_aside = _NO_CUE.match(line) is not None
    if span is not None:
        yield _cue(span, lines)


def _cue(span: tuple[float, float], lines: list[str]) -> Timed:
    raw = "\n".join(lines)
    return timed(*span, raw, has_word_times=_WORD_TIME.search(raw) is not None)


def _without_name(lines: list[str]) -> list[str]:
    """The lines without the number of the next cue, where no empty line stands before it."""
    return lines[:-1] if lines and lines[-1].strip().isdigit() else lines


FORMAT = TimedTextFormat(
    endings=(".vtt",), claims=lambda head: re.match(r"WEBVTT(?:\s|$)", head) is not None, read=_read, order=10
)
