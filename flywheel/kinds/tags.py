"""Tags in lower case, each once: ``{"tags": [...]}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption


def _tags(value: Mapping[str, Any], clean: Callable[[str], str]) -> Payload:
    return {"tags": list(dict.fromkeys(clean(tag).lower() for tag in value["tags"]))}


def _words(payload: Payload) -> str:
    return ", ".join(payload["tags"])


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _tags(value, parse_caption)
    return payload, _words(payload)


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        kept = _tags(payload, clean)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no tags ({type(error).__name__})") from error
    if not kept["tags"] or not all(kept["tags"]):
        raise ValueError("each tag needs a word")
    return kept


KIND = Kind(name="tags", schema_key="tags", read=_read, words=_words, check=_check)
