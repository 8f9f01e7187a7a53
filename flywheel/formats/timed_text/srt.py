"""SubRip: a number, a line of times, and lines of text, as people's programs and hands leave them."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.formats.timed_text import _times
from flywheel.formats.timed_text._cues import Timed, timed
from flywheel.formats.timed_text._format import TimedTextFormat


def _claims(head: str) -> bool:
    return any(_times.span(line) is not None for line in head.split("\n"))


def _read(text: str) -> Iterator[Timed]:
    """All lines up to the next number and times are a cue's: blank ones within it end nothing."""
    span: tuple[float, float] | None = None
    number: int | None = None
    is_numbered = False
    lines: list[str] = []
    for line in text.split("\n"):
        next_span = _times.span(line)
        if next_span is None:
            lines.append(line)
            continue
        next_number = _taken_number(lines, number, is_first=span is None, is_numbered=is_numbered)
        if span is None:
            is_numbered = next_number is not None
        else:
            yield timed(*span, "\n".join(lines))
        span, number, lines = next_span, next_number, []
    if span is not None:
        yield timed(*span, "\n".join(lines))


def _taken_number(lines: list[str], before: int | None, *, is_first: bool, is_numbered: bool) -> int | None:
    """Takes the number that belongs to the next times off the end of lines; None where there is none."""
    last = len(lines) - 1
    while last >= 0 and not lines[last].strip():
        last -= 1
    found = lines[last].strip() if last >= 0 else ""
    if not (found.isascii() and found.isdigit() and len(found) <= 9):
        return None
    number = int(found)
    stands_alone = last == 0 or not lines[last - 1].strip()
    is_next = stands_alone or is_numbered
    if last < len(lines) - 1:
        # A blank line before the times: a text of digits can be the cue's whole text.
        is_next = is_first or (before is not None and number == before + 1)
    if not is_next:
        return None
    del lines[last:]
    return number


FORMAT = TimedTextFormat(endings=(".srt",), claims=_claims, read=_read, order=90)
