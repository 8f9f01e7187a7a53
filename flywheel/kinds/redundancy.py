"""What a shot's text repeats of earlier shots': ``{"repeats": [{"quote", "of"}]}``; of is the earlier shot's number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption

#: The words of a text that repeats nothing.
_NOTHING = "No repeats."


def _repeats(value: Mapping[str, Any], clean: Clean) -> Payload:
    return {"repeats": [{"quote": clean(part["quote"]), "of": int(part["of"])} for part in value["repeats"]]}


def _words(payload: Payload) -> str:
    return "; ".join(f"{part['quote']} as in shot {part['of']}" for part in payload["repeats"]) or _NOTHING


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _repeats(value, parse_caption)
    return payload, _words(payload)


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        return _repeats(payload, clean)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the payload holds no repeats ({type(error).__name__})") from error


KIND = Kind(
    name="redundancy",
    schema_key="repeats",
    read=_read,
    words=_words,
    check=_check,
    inputs=(),
    hints=("earlier", "text"),
)
