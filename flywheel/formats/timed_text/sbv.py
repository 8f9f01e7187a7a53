"""SubViewer as video sites download it: ``0:00:01.000,0:00:02.000``, then lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flywheel.formats.timed_text import _times
from flywheel.formats.timed_text._cues import Timed, timed
from flywheel.formats.timed_text._format import TimedTextFormat

_POINT = r"(?<!\d)(\d{1,3}):(\d{2}):(\d{2})\.(\d{2,3})"
_SPAN = re.compile(rf"^[ \t]{{0,20}}{_POINT}\s{{0,5}},\s{{0,5}}{_POINT}[ \t]{{0,20}}$", re.M)


def _read(text: str) -> Iterator[Timed]:
    # Between two lines of times stands what is shown at the first.
    spans = list(_SPAN.finditer(text))
    for match, following in zip(spans, [*spans[1:], None], strict=True):
        start_s, end_s = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
        raw = text[match.end() : following.start() if following is not None else len(text)]
        yield timed(start_s, end_s, raw.replace("[br]", "\n"))


def _seconds(parts: tuple[str, ...]) -> float:
    return _times.seconds(None, *parts)  # type: ignore[arg-type]


FORMAT = TimedTextFormat(endings=(".sbv",), claims=lambda head: _SPAN.search(head) is not None, read=_read, order=40)
