"""TTML, once DFXP: paragraphs with their times in XML. Source: W3C TTML2, the times of its section 12."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from flywheel.formats.timed_text._cues import Timed, unmarked
from flywheel.formats.timed_text._format import TimedTextFormat
from flywheel.formats.timed_text._xml import name_of, root_of

_CLOCK = re.compile(r"(\d{1,5}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9})|:(\d{1,3}))?")
_AMOUNT = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(h|ms|m|s|f|t)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _read(text: str) -> Iterator[Timed]:
    root = root_of(text)
    if root is None:
        return
    units = _UNITS_S | {"f": 1 / _rate(root, "frameRate", 30.0), "t": 1 / _rate(root, "tickRate", 1.0)}
    # Times of what is within are from the begin of what it is in.
    stack = [(root, 0.0, float("inf"))]
    while stack:
        element, from_s, until_s = stack.pop()
        begin_s = from_s + (_seconds(element.get("begin"), units) or 0.0)
        end_s = _end(element, from_s, begin_s, until_s, units)
        has_own = element.get("begin") is not None or element.get("end") is not None
        if name_of(element) in ("p", "span") and (has_own or name_of(element) == "p"):
            within = [part for part in element if part.get("begin") is not None]
            if not within:
                if end_s < float("inf"):
                    yield unmarked(begin_s, end_s, _words(element))
                continue
        stack += [(part, begin_s, end_s) for part in reversed(element)]


def _end(element: Element, from_s: float, begin_s: float, until_s: float, units: dict[str, float]) -> float:
    if (end_s := _seconds(element.get("end"), units)) is not None:
        return min(from_s + end_s, until_s)
    if (length_s := _seconds(element.get("dur"), units)) is not None:
        return min(begin_s + length_s, until_s)
    return until_s


def _rate(root: Element, name: str, usual: float) -> float:
    found = next((value for key, value in root.items() if key.rpartition("}")[2] == name), "")
    return float(found) if found.isascii() and found.isdigit() and int(found[:12]) > 0 else usual


def _seconds(given: str | None, units: dict[str, float]) -> float | None:
    """A time in seconds; None where there is none that can be read."""
    if (clock := _CLOCK.fullmatch((given or "").strip()[:40])) is not None:
        hours, minutes, whole, fraction, frames = clock.groups()
        rest = float(f"0.{fraction}") if fraction else int(frames or 0) * units["f"]
        return int(hours) * 3600 + int(minutes) * 60 + int(whole) + rest
    amount = _AMOUNT.fullmatch((given or "").strip()[:40])
    return float(amount[1]) * units[amount[2]] if amount is not None else None


def _words(element: Element) -> str:
    """The words of an element: line breaks of the file are blanks, those of ``br`` are lines."""
    parts: list[str] = []
    stack: list[Element | str] = [element]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            parts.append(" ".join(part.replace("\n", " ").split(" ")))
        elif name_of(part) == "br":
            parts.append("\n")
        elif name_of(part) != "metadata":
            stack += [piece for child in reversed(part) for piece in (child.tail or "", child)] + [part.text or ""]
    return "".join(parts)


FORMAT = TimedTextFormat(
    endings=(".ttml", ".dfxp"),
    claims=lambda head: re.search(r"<(?:\w{1,20}:)?tt[\s>]", head) is not None,
    read=_read,
    order=30,
)
