"""What a shot's text repeats of earlier shots': ``{"repeats": [{"quote", "of"}]}``; of is the earlier shot's number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Payload
from flywheel.kinds._lists import list_kind

#: The words of a text that repeats nothing.
_NOTHING = "No repeats."


def _repeats(value: Mapping[str, Any], clean: Clean) -> Payload:
    return {"repeats": [{"quote": clean(part["quote"]), "of": int(part["of"])} for part in value["repeats"]]}


def _words(payload: Payload) -> str:
    return "; ".join(f"{part['quote']} as in shot {part['of']}" for part in payload["repeats"]) or _NOTHING


KIND = list_kind("redundancy", of="repeats", cleaned=_repeats, words=_words, hints=("earlier", "text"))
