"""WebVTT and SRT in and out; times in seconds.

Reading is tolerant of what files in the wild hold: tags, settings, missing hours, CRLF. It takes time in proportion to
the text, whatever the text holds.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from flywheel.core.foreign import escaped, without_hidden
from flywheel.core.types import Cue

_TIME = r"(?:(?<!\d)(\d{1,5}):)?(?<!\d)(\d{1,2}):(\d{2})[.,](\d{1,3})"
_ARROW = re.compile(rf"{_TIME}\s{{0,20}}-->\s{{0,20}}{_TIME}")
#: A longer line holds no times.
_MOST_TIMES_CHARS = 500
# No tag holds the sign that begins one: else each of many such signs would be followed to the end of the text.
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
#: References to characters that there are not, with more digits than Python reads.
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")


def parse_subtitles(text: str) -> list[Cue]:
    """Cues of a ``.vtt`` or ``.srt`` file, in the order of the file; all else is passed over."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff").split("\n")
    cues = [_cue(block) for block in _blocks(lines)]
    return [cue for cue in cues if cue is not None]


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines between blank ones."""
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _cue(lines: list[str]) -> Cue | None:
    """The cue of a block of lines; None where it has no times, no words, or no length."""
    for index, line in enumerate(lines):
        match = _ARROW.search(line) if "-->" in line and len(line) <= _MOST_TIMES_CHARS else None
        if match is not None:
            words = " ".join(_TAG.sub("", part).strip() for part in lines[index + 1 :]).strip()
            words = without_hidden(html.unescape(_LONG_REFERENCE.sub("\ufffd", words)))
            start_s, end_s = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
            return Cue(start_s=start_s, end_s=end_s, text=words) if words and end_s > start_s else None
    return None


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole + int((fraction or "0").ljust(3, "0")) / 1000


def text_within(cues: list[Cue], start_s: float, end_s: float) -> str:
    """The words spoken within a span: those of cues whose middle lies in [start_s, end_s)."""
    return " ".join(cue.text for cue in cues_within(cues, start_s, end_s))


def cues_within(cues: list[Cue], start_s: float, end_s: float) -> list[Cue]:
    """Cues whose middle lies in [start_s, end_s)."""
    return [cue for cue in cues if start_s <= (cue.start_s + cue.end_s) / 2 < end_s]


def cues_by_span(cues: Sequence[Cue], spans: Iterable[tuple[float, float]]) -> Iterator[list[Cue]]:
    """For each span (start, end) its cues as :func:`cues_within` gives them, without a look at all cues each time."""
    middles = [(cue.start_s + cue.end_s) / 2 for cue in cues]
    order = sorted(range(len(cues)), key=middles.__getitem__)
    by_time = [middles[index] for index in order]
    for start_s, end_s in spans:
        found = order[bisect_left(by_time, start_s) : bisect_left(by_time, end_s)]
        yield [cues[index] for index in sorted(found)]


def webvtt(cues: Iterable[Cue], note: str = "") -> str:
    """A WebVTT file, exact to the millisecond; ``note`` becomes a comment."""
    # A line break, or an arrow, would end the comment.
    note = re.sub(r"-+>", "->", escaped(note))
    blocks = ["WEBVTT", *([f"NOTE {note}"] if note else [])]
    blocks += [f"{_span(cue, '.')}\n{_escaped(cue.text)}" for cue in cues]
    return "\n\n".join(blocks) + "\n"


def srt(cues: Iterable[Cue]) -> str:
    """A SubRip file, exact to the millisecond."""
    # The format has no escapes of its own; WebVTT's keep "<" from being read as a tag.
    blocks = [f"{number}\n{_span(cue, ',')}\n{_escaped(cue.text)}" for number, cue in enumerate(cues, 1)]
    return "\n\n".join(blocks) + "\n"


def _span(cue: Cue, point: str) -> str:
    return f"{_stamp(cue.start_s, point)} --> {_stamp(cue.end_s, point)}"


def _stamp(seconds: float, point: str) -> str:
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{milli:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
