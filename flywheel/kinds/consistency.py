"""Corrections of a text by what is seen and heard: ``{"edits": [{"quote", "instead", "reason"}]}``.

``quote`` is copied from the text, ``instead`` stands in its place and is empty where the words go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption

#: The words of a check that changes nothing.
_NOTHING = "No edits."


def _edits(value: Mapping[str, Any], clean: Clean) -> Payload:
    return {
        "edits": [
            {
                "quote": clean(edit["quote"]),
                "instead": clean(edit["instead"]) if edit["instead"].strip() else "",
                "reason": clean(edit["reason"]),
            }
            for edit in value["edits"]
        ]
    }


def _words(payload: Payload) -> str:
    return "; ".join(f"{e['quote']} -> {e['instead'] or 'nothing'}" for e in payload["edits"]) or _NOTHING


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _edits(value, parse_caption)
    return payload, _words(payload)


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        return _edits(payload, clean)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no edits ({type(error).__name__})") from error


KIND = Kind(
    name="consistency",
    schema_key="edits",
    read=_read,
    words=_words,
    check=_check,
    inputs=(),
    hints=("seen", "heard", "text"),
)
