"""Values of JSON files one by one: lines, lists of any length, and objects that hold a list or many named entries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from flywheel.core.foreign import parsed_json

_CHUNK = 1 << 20
#: The longest value of a list, and the longest object that is a whole file, in characters.
_MOST_VALUE, _MOST_OBJECT = 1 << 24, 1 << 26
#: Lists in an object whose entries are rows; the first that is there.
_LISTS = ("data", "annotations", "sentences", "videos", "clips", "samples", "items", "rows", "examples")


class Broken(str):
    """What is wrong with a value, in its place."""


def json_values(text: TextIO) -> Iterator[Any]:
    """The rows of a JSON text; a :class:`Broken` where it can't be read any further. Raises ValueError for no JSON."""
    head = text.read(_CHUNK)
    if head.lstrip()[:1] == "[":
        yield from _of_list(head, text)
        return
    rest = text.read(_MOST_OBJECT)
    if len(rest) == _MOST_OBJECT:
        raise ValueError(f"an object of more than {_MOST_OBJECT >> 20} million characters; give a list or JSON lines")
    yield from _of_object(parsed_json(head + rest))


def _of_list(buffer: str, text: TextIO) -> Iterator[Any]:
    """Values of a list as they come, without holding it."""
    decoder, at = json.JSONDecoder(), buffer.index("[") + 1
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            at += 1
        if buffer[at : at + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(buffer, at) if at < len(buffer) else (None, len(buffer))
        except RecursionError:
            yield Broken("nested too deeply")
            return
        except ValueError as error:
            value, end = error, len(buffer)
        # A number at the end of what was read may go on.
        if end < len(buffer) - 1:
            yield value
            at = end
            continue
        chunk = text.read(max(_CHUNK, len(buffer) - at))
        if not chunk or len(buffer) - at > _MOST_VALUE:
            if at < len(buffer) and not isinstance(value, ValueError):
                yield value
                if buffer[end:].strip() == "]":
                    return
            yield Broken("ends before its list does; it is cut short or damaged")
            return
        buffer, at = buffer[at:] + chunk, 0


def _of_object(value: Any) -> Iterator[Any]:
    """The rows of an object: MSR-VTT's, YouCook2's, ActivityNet's, a list under one of its usual names, or itself."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a list or an object, got {type(value).__name__}")
    inner = value.get("database")
    entries = inner if isinstance(inner, Mapping) else value
    if entries and all(isinstance(entry, Mapping) for entry in entries.values()):
        for name, entry in entries.items():
            yield from _named(name, entry)
        return
    sentences = value.get("sentences")
    if isinstance(sentences, list) and isinstance(value.get("videos"), list):
        # MSR-VTT lists the videos, then what is said of each.
        yield from sentences
        return
    rows = next((value[key] for key in _LISTS if isinstance(value.get(key), list) and _is_rows(value[key])), None)
    yield from [value] if rows is None or "video" in value or "path" in value else rows


def _is_rows(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], Mapping)


def _named(name: str, entry: Mapping[str, Any]) -> Iterator[Any]:
    """Rows of an entry that is called as its video is."""
    steps = entry.get("annotations")
    if isinstance(steps, list) and _is_rows(steps):
        # YouCook2 lists the steps of a video.
        for step in steps:
            yield {**step, "id": None, "video_id": name} if isinstance(step, Mapping) else step
        return
    yield {"video_id": name, **entry}
