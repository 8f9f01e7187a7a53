"""One account of a whole video: ``{"parts": [{"first", "last", "text"}]}``, each of shots by their numbers.

Times are those of the shots: a model names shots and no times.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply, Unusable, parse_caption


def _parts(value: Mapping[str, Any], clean: Clean) -> Payload:
    parts: list[dict[str, Any]] = [
        {"first": int(p["first"]), "last": int(p["last"]), "text": clean(p["text"])} for p in value["parts"]
    ]
    if not parts:
        raise Unusable("the narrative has no part")
    if any(part["first"] > part["last"] for part in parts):
        raise BrokenReply("a part of the narrative ends before it begins")
    if any(after["first"] <= before["last"] for before, after in pairwise(parts)):
        raise BrokenReply("parts of the narrative are out of order, or overlap")
    return {"parts": parts}


def _words(payload: Payload) -> str:
    return " ".join(part["text"] for part in payload["parts"])


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _parts(value, parse_caption)
    return payload, _words(payload)


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        return _parts(payload, clean)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the payload holds no parts ({type(error).__name__})") from error


KIND = Kind(name="narrative", schema_key="parts", read=_read, words=_words, check=_check, inputs=(), hints=("shots",))
