"""Lyrics: ``[mm:ss.xx]`` before each line, several before one that is sung several times."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flywheel.formats.timed_text._cues import Timed, timed
from flywheel.formats.timed_text._format import TimedTextFormat

_STAMP = re.compile(r"\[(\d{1,4}):(\d{2})(?:[.:](\d{1,3}))?\]")
_STAMPS = re.compile(rf"^[ \t]{{0,20}}(?:{_STAMP.pattern}[ \t]{{0,5}})", re.M)
_OFFSET = re.compile(r"^\[offset:\s{0,5}([+-]?\d{1,7})\s{0,5}\]", re.M | re.I)
#: So long the last line is shown, in seconds; nothing says when it ends.
_LAST_S = 5.0


def _read(text: str) -> Iterator[Timed]:
    offset = _OFFSET.search(text)
    # A positive offset shows the lines sooner.
    shift_s = int(offset[1]) / 1000 if offset is not None else 0.0
    sung: list[tuple[float, str]] = []
    for line in text.split("\n"):
        rest, at = line.strip(), []
        while (stamp := _STAMP.match(rest)) is not None:
            minutes, whole, fraction = stamp.groups()
            at.append(int(minutes) * 60 + int(whole) + int((fraction or "0").ljust(3, "0")) / 1000 - shift_s)
            rest = rest[stamp.end() :].lstrip()
        sung += [(time_s, rest) for time_s in at]
    sung.sort(key=lambda line: line[0])
    for (start_s, words), (end_s, _) in zip(sung, [*sung[1:], (float("inf"), "")], strict=True):
        yield timed(start_s, min(end_s, start_s + _LAST_S) if end_s == float("inf") else end_s, words)


FORMAT = TimedTextFormat(endings=(".lrc",), claims=lambda head: _STAMPS.search(head) is not None, read=_read, order=80)
