"""What YouTube's captions come as beside WebVTT: JSON (``json3``) and three forms of XML (``srv1`` to ``srv3``)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from flywheel.core.foreign import parsed_json
from flywheel.formats.timed_text._cues import Timed, timed, unmarked
from flywheel.formats.timed_text._format import TimedTextFormat
from flywheel.formats.timed_text._xml import name_of, root_of


def _read(text: str) -> Iterator[Timed]:
    if text.lstrip().startswith("{"):
        yield from _json(text)
        return
    root = root_of(text)
    for element in root.iter() if root is not None else ():
        match name_of(element):
            case "p" if element.get("t") is not None:
                start_s, length_s = (_number(element.get(name)) / 1000 for name in ("t", "d"))
                yield unmarked(start_s, start_s + length_s, "".join(element.itertext()))
            case "text":
                yield _text(element)


def _text(element: Element) -> Timed:
    """A text of the older forms: in seconds, or in milliseconds; escaped twice."""
    unit, names = (1000, ("t", "d")) if element.get("t") is not None else (1, ("start", "dur"))
    start_s, length_s = (_number(element.get(name)) / unit for name in names)
    return timed(start_s, start_s + length_s, "".join(element.itertext()))


def _json(text: str) -> Iterator[Timed]:
    try:
        events = parsed_json(text)["events"]
    except (ValueError, KeyError, TypeError):
        return
    for event in events if isinstance(events, list) else ():
        parts = event.get("segs") if isinstance(event, Mapping) else None
        if not isinstance(parts, list):
            continue
        words = "".join(str(part.get("utf8") or "") for part in parts if isinstance(part, Mapping))
        start_s = _number(event.get("tStartMs")) / 1000
        yield unmarked(start_s, start_s + _number(event.get("dDurationMs")) / 1000, words)


def _number(given: Any) -> float:
    try:
        number = float(given or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _claims(head: str) -> bool:
    if head.startswith("{"):
        return '"wireMagic"' in head or '"events"' in head or '"tStartMs"' in head
    return re.search(r"<(?:timedtext|transcript)[\s>]", head) is not None


FORMAT = TimedTextFormat(endings=(".json3", ".srv3", ".srv2", ".srv1"), claims=_claims, read=_read, order=50)
