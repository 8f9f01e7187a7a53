"""Questions with their answers: ``{"pairs": [{"question", "answer"}]}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption


def _pairs(value: Mapping[str, Any], clean: Callable[[str], str]) -> Payload:
    return {"pairs": [{"question": clean(p["question"]), "answer": clean(p["answer"])} for p in value["pairs"]]}


def _words(payload: Payload) -> str:
    return " ".join(f"{pair['question']} {pair['answer']}" for pair in payload["pairs"])


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _pairs(value, parse_caption)
    return payload, _words(payload)


def _turns(payload: Payload) -> tuple[tuple[str, str], ...]:
    return tuple((pair["question"], pair["answer"]) for pair in payload["pairs"])


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        kept = _pairs(payload, clean)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no pairs ({type(error).__name__})") from error
    if not kept["pairs"] or not all(pair["question"] and pair["answer"] for pair in kept["pairs"]):
        raise ValueError("each pair needs a question and an answer")
    return kept


KIND = Kind(name="qa", schema_key="pairs", read=_read, words=_words, check=_check, turns=_turns)
