"""One account of a whole video: ``{"parts": [{"first", "last", "text"}]}``, each of shots by their numbers.

Times are those of the shots: a model names shots and no times.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from flywheel.kinds._kind import Clean, Payload
from flywheel.kinds._lists import list_kind
from flywheel.kinds._parsing import BrokenReply, Unusable


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


KIND = list_kind("narrative", of="parts", cleaned=_parts, words=_words, hints=("shots",))
