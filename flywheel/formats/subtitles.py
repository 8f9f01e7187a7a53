"""Timed texts in, and WebVTT and SRT out; times in seconds.

Reading is tolerant of what files in the wild hold (:mod:`flywheel.formats.timed_text`). It takes time in proportion to
the text, whatever the text holds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from flywheel.core.foreign import escaped
from flywheel.core.types import Cue
from flywheel.formats.timed_text import read_cues


def parse_subtitles(text: str, *, rolling: bool = True) -> list[Cue]:
    """Cues of a file of timed text of any kind, in the order of time; all else is passed over.

    Captions of sites and stations that show each line twice give each line once, unless ``rolling`` is off.
    """
    return read_cues(text, rolling=rolling)


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
