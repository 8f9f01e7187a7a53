"""What is seen and heard in one text: ``{"sentences": [{"text", "by"}]}``; by is ``seen``, ``heard`` or ``both``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Payload
from flywheel.kinds._lists import list_kind
from flywheel.kinds._parsing import BrokenReply, Unusable

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


KIND = list_kind("fused", of="sentences", cleaned=_sentences, words=_words, hints=("seen", "heard"))
