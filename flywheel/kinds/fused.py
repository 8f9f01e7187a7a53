"""What is seen and heard in one text: ``{"sentences": [{"text", "by"}]}``; by is ``seen``, ``heard`` or ``both``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply, Unusable, parse_caption

MEDIA = ("seen", "heard", "both")


def _sentences(value: Mapping[str, Any], clean: Clean) -> Payload:
    sentences = []
    for sentence in value["sentences"]:
        if sentence["by"] not in MEDIA:
            raise BrokenReply(f"a sentence is by {', '.join(MEDIA)}, not {sentence['by']!r}")
        sentences.append({"text": _ended(clean(sentence["text"])), "by": sentence["by"]})
    if not sentences:
        raise Unusable("the text has no sentence")
    return {"sentences": sentences}


def _ended(text: str) -> str:
    return text if text[-1:] in ".!?" else f"{text}."


def _words(payload: Payload) -> str:
    return " ".join(sentence["text"] for sentence in payload["sentences"])


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = _sentences(value, parse_caption)
    return payload, _words(payload)


def _check(payload: Any, _: float, clean: Clean) -> Payload:
    try:
        return _sentences(payload, clean)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no sentences ({type(error).__name__})") from error


KIND = Kind(
    name="fused", schema_key="sentences", read=_read, words=_words, check=_check, inputs=(), hints=("seen", "heard")
)
