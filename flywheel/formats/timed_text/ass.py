"""Advanced SubStation Alpha, and SSA before it: lines of events, their fields in the order that ``Format`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flywheel.formats.timed_text import _times
from flywheel.formats.timed_text._cues import Timed, timed
from flywheel.formats.timed_text._format import TimedTextFormat

_USUAL = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_TIME = re.compile(rf"\s{{0,20}}{_times.TIME}\s{{0,20}}")
#: What stands in braces is never shown, also where it is a remark and no override.
_REMARK = re.compile(r"\{[^{}\\]*\}")


def _read(text: str) -> Iterator[Timed]:
    fields: tuple[str, ...] = _USUAL
    is_event = True
    # The same words in several layers are one text with a shadow.
    before: set[tuple[str, str, str]] = set()
    for line in text.split("\n"):
        if line.startswith("["):
            is_event = line.strip().lower() == "[events]"
            continue
        kind, _, rest = line.partition(":")
        match kind.strip().lower():
            case "format" if is_event:
                named = tuple(field.strip().lower() for field in rest.split(","))
                fields = named if {"start", "end", "text"} <= set(named) else _USUAL
            case "dialogue":
                values = dict(zip(fields, rest.split(",", len(fields) - 1), strict=False))
                key = (values.get("start", ""), values.get("end", ""), values.get("text", ""))
                if key not in before and (found := _event(*key)) is not None:
                    yield found
                before.add(key)


def _event(start: str, end: str, words: str) -> Timed | None:
    first, last = (_TIME.fullmatch(part[: _times.MOST_CHARS]) for part in (start, end))
    if first is None or last is None:
        return None
    span = _times.seconds(*first.groups()), _times.seconds(*last.groups())  # type: ignore[arg-type]
    return timed(*span, without_remarks(words))


def without_remarks(words: str) -> str:
    """An event's text without remarks in braces, which no player shows."""
    return _REMARK.sub("", words)


def _claims(head: str) -> bool:
    return re.search(r"^(?:\[Script Info\]|\[V4\+? Styles\]|\[Events\]|Dialogue:)", head, re.I | re.M) is not None


FORMAT = TimedTextFormat(endings=(".ass", ".ssa"), claims=_claims, read=_read, order=20)
