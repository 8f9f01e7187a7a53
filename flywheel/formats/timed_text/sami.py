"""SAMI: a time, then what is shown from then on, in one paragraph for each language."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from flywheel.formats.timed_text._cues import Timed, unmarked
from flywheel.formats.timed_text._format import TimedTextFormat

_SYNC = re.compile(r"<SYNC\s{1,9}[^<>]{0,200}?Start\s{0,9}=\s{0,9}[\"']?(\d{1,12})[^<>]{0,200}>", re.I)
_PARAGRAPH = re.compile(r"<P\s[^<>]{0,200}?Class\s{0,9}=\s{0,9}[\"']?([\w-]{1,40})[^<>]{0,200}>", re.I)
_BREAK, _TAG = re.compile(r"<br\s{0,9}/?>", re.I), re.compile(r"</?[a-z!][^<>]{0,1000}>", re.I)
#: The last text has no end, in seconds.
_LAST_S = 5.0


def _read(text: str) -> Iterator[Timed]:
    syncs = list(_SYNC.finditer(text))
    language = ""
    for match, following in zip(syncs, [*syncs[1:], None], strict=True):
        start_s = int(match[1]) / 1000
        raw = text[match.end() : following.start() if following is not None else len(text)]
        paragraphs = _PARAGRAPH.split(raw)
        # What stands before the first class, then class and text in turns.
        named = list(zip(paragraphs[1::2], paragraphs[2::2], strict=True))
        language = language or (named[0][0].lower() if named else "")
        words = "\n".join(of for name, of in named if name.lower() == language) if named else raw
        end_s = int(following[1]) / 1000 if following is not None else start_s + _LAST_S
        yield unmarked(start_s, end_s, html.unescape(_TAG.sub("", _BREAK.sub("\n", " ".join(words.split())))))


FORMAT = TimedTextFormat(
    endings=(".smi", ".sami"), claims=lambda head: re.match(r"<SAMI[\s>]", head, re.I) is not None, read=_read, order=60
)
