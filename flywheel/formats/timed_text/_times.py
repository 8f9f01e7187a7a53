"""Times as subtitles write them."""

from __future__ import annotations

import re

#: Hours may be left out, and what follows the seconds; people and programs put blanks between.
TIME = (
    r"(-\s?)?(?:(?<!\d)(\d{1,5})\s?:\s?)?(?<!\d)(\d{1,3})\s?:\s?(\d{1,2})(?!\d)"
    r"(?:\s?[.,]\s?(\d{1,9})(?!\d))?"
)
#: A longer line holds no times.
MOST_CHARS = 500
_ARROW = re.compile(rf"{TIME}\s{{0,20}}(?:-{{1,3}}\s?>|[\u2013\u2014]\s?>|-\s-\s?>|\u2192)\s{{0,20}}{TIME}(?![\d:])")
_NUMBER = re.compile(r"\s{0,20}(\d{1,9})\s{1,20}(?=-?\d{1,5}\s?:)")


def seconds(sign: str | None, hours: str | None, minutes: str, whole: str, fraction: str | None) -> float:
    """The time of the parts of :data:`TIME`, in seconds."""
    number = int(hours or 0) * 3600 + int(minutes) * 60 + int(whole) + int((fraction or "0")[:3].ljust(3, "0")) / 1000
    return -number if sign else number


def span(line: str) -> tuple[float, float] | None:
    """(start, end) in seconds of a line of times with an arrow; None of any other line.

    Before the times nothing stands but blanks and the cue's number: an arrow in a text is a sign.
    """
    if not ("-" in line or "\u2013" in line or "\u2014" in line or "\u2192" in line) or len(line) > MOST_CHARS:
        return None
    number = _NUMBER.match(line)
    match = _ARROW.match(line.lstrip() if number is None else line[number.end() :])
    if match is None:
        return None
    return seconds(*match.groups()[:5]), seconds(*match.groups()[5:])  # type: ignore[arg-type]
