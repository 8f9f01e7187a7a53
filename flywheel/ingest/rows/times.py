"""Times as tables have them: numbers of seconds, texts with units, times of a clock."""

from __future__ import annotations

import math
import re
from typing import Any

from flywheel.core.foreign import parsed_json
from flywheel.ingest.places import is_nothing
from flywheel.ingest.rows.names import (
    END_FRAMES,
    ENDS,
    ENDS_MS,
    FPS,
    FROM,
    SPANS,
    START_FRAMES,
    STARTS,
    STARTS_MS,
    TO,
    Row,
    plain,
)

#: Begin and end in seconds; None where the row does not say.
Span = tuple[float | None, float | None]
_CLOCK = re.compile(r"(?:(\d{1,5}):)?(\d{1,3}):(\d{1,2}(?:[.,]\d{1,9})?)")
_NUMBER = re.compile(r"([+-]?\d{1,15}(?:[.,]\d{1,15})?(?:[eE][+-]?\d{1,3})?)\s{0,3}(ms|msec|s|sec|secs|seconds)?", re.I)
#: A longer text is no time, and a longer one no list of them.
_MOST_CHARS, _MOST_LIST_CHARS = 40, 1 << 20
_QUOTES = str.maketrans("'()", '"[]')
_FROM_TO = re.compile(r"\s{0,9}(?:-->|–|—|-|to|,|;)\s{0,9}")


class NoTimeError(ValueError):
    """A value that should be a time and is none; ``problem`` says it for its row."""

    problem = "start and end must be seconds"


class NoPairsError(NoTimeError):
    """Spans and texts of a row that are not equally many: nobody knows which belong together."""

    problem = "names more than one span and not as many texts"


class NoFramesError(NoTimeError):
    """A span in frames, of a row that does not say how many make a second."""

    problem = "start_frame and end_frame need 'fps'; or give start_s and end_s"


def seconds(value: Any, scale: float = 1.0) -> float | None:
    """The value in seconds, a bare number times ``scale``; None for nothing. Raises NoTimeError for what is no time."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _of_text(value.strip(), scale)
    try:
        number = float(value) * scale
    except (TypeError, ValueError, OverflowError):
        raise NoTimeError(f"{str(value)[:40]!r} is no time") from None
    # What spreadsheets and frames of data write for nothing.
    return None if math.isnan(number) else number


def _of_text(text: str, scale: float) -> float | None:
    if is_nothing(text):
        return None
    match = _CLOCK.fullmatch(text) if len(text) <= _MOST_CHARS else None
    if match is not None:
        hours, minutes, rest = match.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    match = _NUMBER.fullmatch(text) if len(text) <= _MOST_CHARS else None
    if match is None:
        raise NoTimeError(f"{text[:40]!r} is no time")
    number, unit = float(match[1].replace(",", ".")), (match[2] or "").lower()
    return number * ({"": scale, "m": 0.001}.get(unit[:1], 1.0))


def span_of(row: Row) -> Span:
    """Begin and end that a row names in columns of their own. Raises NoTimeError where they are no times."""
    for starts, ends, scale in ((STARTS, ENDS, 1.0), (STARTS_MS, ENDS_MS, 0.001)):
        start, end = _first_single(row, starts), _first_single(row, ends)
        if start is not None or end is not None:
            return seconds(start, scale), seconds(end, scale)
    if (frames := _in_frames(row)) is not None:
        return frames
    start, end = row.first(FROM), row.first(TO)
    if start is None or end is None:
        return None, None
    try:
        return seconds(start), seconds(end)
    except NoTimeError:
        # A letter has them too.
        return None, None


def _first_single(row: Row, names: tuple[str, ...]) -> Any:
    """The first value that is no list: lists are of many spans."""
    return next((value for _, value in row.given(names) if not isinstance(value, list | dict)), None)


def _in_frames(row: Row) -> Span | None:
    start, end = row.first(START_FRAMES), row.first(END_FRAMES)
    if start is None and end is None:
        return None
    fps = seconds(row.first(FPS))
    if not fps or fps < 0:
        raise NoFramesError
    first, last = seconds(start), seconds(end)
    return None if first is None else first / fps, None if last is None else last / fps


def spans_of(row: Row) -> list[tuple[Span, Any]]:
    """(span, its own text or None) of each that one column of a row lists; empty where none does."""
    for column, value in row.given(SPANS):
        if plain(column) == "timestamp" and isinstance(value, str) and not set(value) & set(":.["):
            # A day, such as 2024-05.
            continue
        if found := _listed(_unpacked(value)):
            return found
    # Many begins and many ends: {"start": [1, 2], "end": [2, 3]}.
    starts, ends = (_unpacked(row.first(names)) for names in (STARTS, ENDS))
    if isinstance(starts, list) and isinstance(ends, list) and len(starts) == len(ends):
        return [((seconds(a), seconds(b)), None) for a, b in zip(starts, ends, strict=True)]
    return []


def _unpacked(value: Any) -> Any:
    """The list that a text in a table's cell stands for, in JSON or as Python writes it; else the value itself."""
    if not isinstance(value, str) or value[:1] not in "[({" or len(value) > _MOST_LIST_CHARS:
        return value
    for text in (value, value.translate(_QUOTES)):
        try:
            return parsed_json(text)
        except ValueError:
            continue
    return value


def unpacked_texts(value: Any) -> Any:
    """The list of texts that a cell stands for, in JSON or as Python writes it; else the value itself."""
    if not isinstance(value, str) or value[:1] != "[" or len(value) > _MOST_LIST_CHARS:
        return value
    try:
        found = parsed_json(value)
    except ValueError:
        found = _python_texts(value)
    return found if isinstance(found, list) and found and all(isinstance(text, str) for text in found) else value


_PYTHON_TEXT = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(,|$)""", re.S)


def _python_texts(value: str) -> list[str] | None:
    inside, texts, at = value.strip()[1:-1], [], 0
    while at < len(inside):
        match = _PYTHON_TEXT.match(inside, at)
        if match is None:
            return None
        text = match[1] if match[1] is not None else match[2]
        texts.append(re.sub(r"\\(.)", r"\1", text))
        at = match.end()
    return texts


def _listed(value: Any, *, is_inner: bool = False) -> list[tuple[Span, Any]]:
    """The spans of a value: [a, b], [[a, b], …], {"start": a, "end": b}, a list of these, or "a - b"."""
    if isinstance(value, str):
        parts = _FROM_TO.split(value) if len(value) <= 2 * _MOST_CHARS else []
        value = parts if len(parts) == 2 else None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return []
    if len(value) == 2 and not any(isinstance(part, list | dict) for part in value):
        value = [value]
    found = [_one(part, is_inner=is_inner) for part in value]
    # Times of pictures, and whatever else is listed there, are no spans.
    return [part for part in found if part is not None] if all(part is not None for part in found) else []


def _one(part: Any, *, is_inner: bool) -> tuple[Span, Any] | None:
    """The span of an entry, and the entry where it says more; None where it is no span."""
    try:
        if isinstance(part, dict) and not is_inner:
            inner = Row(part)
            span = span_of(inner)
            if span == (None, None):
                # {"segment": [a, b], "sentence": …}, and no deeper.
                within = [one for _, value in inner.given(SPANS) for one in _listed(value, is_inner=True)]
                span = within[0][0] if len(within) == 1 else span
            return (span, inner) if None not in span else None
        if isinstance(part, list) and len(part) == 2:
            span = (seconds(part[0]), seconds(part[1]))
            return (span, None) if None not in span else None
    except NoTimeError:
        return None
    return None
