"""Cells that rows of corrections and of choices share: who, how long, and when."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from human_refine.cleaning import clean_text

#: Clocks differ: what is dated no later than this from now is taken as said now.
_CLOCKS_DIFFER = timedelta(minutes=5)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_NAME_CHARS = 200
#: What spreadsheets make of ids that are digits, or digits and one e.
_NUMBER = re.compile(r"\d{1,19}|\d{1,17}0{3,}|\d{1,20}(?:[.,]\d{1,20})?[eE][+-]?\d{1,4}")
_AS_TEXT = "take the ids from the queue again, with that column as text"


def unknown_text(annotation_id: str, how: str = "unknown") -> str:
    """What is wrong with an id that no text has."""
    if _NUMBER.fullmatch(annotation_id):
        return f"'{annotation_id[:40]}' is a number that a spreadsheet made of an id; {_AS_TEXT}"
    return f"annotation '{annotation_id[:40]}' is {how}"


def refiner_of(values: Mapping[str, Any]) -> str:
    """Who a row says spoke; ``unnamed`` where it says nobody."""
    return clean_text(values.get("refiner") or "unnamed", _MOST_NAME_CHARS)


def seconds_of(values: Mapping[str, Any]) -> float:
    """The seconds that a row says it took; 0 where it says nothing. Raises ValueError for what can't be."""
    given = values.get("seconds")
    try:
        # Spreadsheets have decimal commas in half of the world.
        seconds = float((given.replace(",", ".") if isinstance(given, str) else given) or 0.0)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"seconds must be a number, got {str(given)[:40]!r}") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"seconds must be zero or more, got {seconds:g}")
    return seconds


def time_of(values: Mapping[str, Any], now: datetime) -> datetime | None:
    """The time that a row gives, UTC where it names no zone; None where it gives none.

    Raises ValueError for what is no time, or can't be one.
    """
    given = values.get("at")
    try:
        at = datetime.fromisoformat(given) if given else None
    except (TypeError, ValueError):
        raise ValueError(f"at must be an ISO 8601 time, got {str(given)[:40]!r}") from None
    if at is None:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if at > now + _CLOCKS_DIFFER:
        raise ValueError(f"at lies in the future: {given}")
    if at < _EARLIEST:
        raise ValueError(f"at lies before the year 2000: {given}")
    return at
