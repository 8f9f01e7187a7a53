"""What a text states, taken apart: atomic facts, each with the words that state it.

``{"facts": [{"fact", "quote", "modality", "aspect"}]}``; modality is ``seen``, ``heard`` or ``said`` (in speech),
aspect ``static``, ``event`` or ``order`` (that one thing comes before another). A text that states nothing has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply, parse_caption

MODALITIES = ("seen", "heard", "said")
ASPECTS = ("static", "event", "order")
#: The words of a text that states nothing.
_NOTHING = "No facts."


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = {"facts": [_fact(fact, parse_caption) for fact in value["facts"]]}
    return payload, _words(payload)


def _fact(fact: Mapping[str, Any], clean: Clean) -> dict[str, str]:
    modality, aspect = fact["modality"], fact["aspect"]
    if modality not in MODALITIES or aspect not in ASPECTS:
        raise BrokenReply(
            f"a fact is {', '.join(MODALITIES)} and {', '.join(ASPECTS)}, not {modality!r} and {aspect!r}"
        )
    return {"fact": clean(fact["fact"]), "quote": clean(fact["quote"]), "modality": modality, "aspect": aspect}


def _words(payload: Payload) -> str:
    return " ".join(f"{fact['fact'].rstrip('.')}." for fact in payload["facts"]) or _NOTHING


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        return {"facts": [_fact(fact, clean) for fact in payload["facts"]]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no facts ({type(error).__name__})") from error


KIND = Kind(name="facts", schema_key="facts", read=_read, words=_words, check=_check, inputs=(), hints=("text",))
