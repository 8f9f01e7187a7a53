"""A narrator without a model: it fuses, checks and shortens texts about the playground's videos by its words' meanings.

It knows the words of :mod:`flywheel.playground.av` alone, and takes other sentences as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flywheel.playground.av.facts import facts
from flywheel.playground.av.grammar import DIALECTS

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
#: A fact's place among the things or the sounds of a text.
_PLACE = re.compile(r"^(seen|heard)\.\d+\.")
#: What separates the parts of a description as a prompt shows it, and the events of one part.
_PART, _EVENT = ". ", "; "


def told(given: dict[str, Any], schema: str) -> dict[str, Any]:
    """The reply to a prompt of 'flywheel narrate', by what it shows. Raises ValueError for another prompt."""
    if "SHOTS" in given:
        return {"parts": [{name: row[name] for name in ("first", "last", "text")} for row in given["SHOTS"]]}
    if "EARLIER" in given:
        return {"repeats": list(_repeats(given["TEXT"], given["EARLIER"]))}
    if "TEXT" in given and ("SEEN" in given or "HEARD" in given):
        return {"edits": list(_edits(given))}
    if '"sentences"' in schema:
        return {"sentences": [*_sentences(given, "seen"), *_sentences(given, "heard")]}
    raise ValueError("another prompt")


def _sentences(given: dict[str, Any], by: str) -> Iterator[dict[str, str]]:
    """Each part of a description, and each of its events, as a sentence."""
    for part in given.get(by.upper(), "").split(_PART):
        name, _, words = part.partition(": ")
        for text in (words or name).split(_EVENT):
            if text.strip(" ."):
                yield {"text": f"{text.strip(' .')}.", "by": by}


def _edits(given: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Takes out each sentence that states what neither description states."""
    supported = _stated(given.get("SEEN", "")) | _stated(given.get("HEARD", ""))
    for sentence in _SENTENCE.split(given["TEXT"]):
        if wrong := sorted(_stated(sentence) - supported):
            yield {"quote": sentence, "instead": "", "reason": f"nobody saw or heard {wrong[0]}"}


def _repeats(text: str, earlier: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The sentences of which an earlier shot's text states all, the nearest shot first."""
    for sentence in _SENTENCE.split(text):
        stated = _stated(sentence)
        for shot in reversed(earlier):
            same = any(_folded(sentence) == _folded(other) for other in _SENTENCE.split(shot["text"]))
            if same or (stated and any(stated <= _stated(other) for other in _SENTENCE.split(shot["text"]))):
                yield {"quote": sentence, "of": shot["shot"]}
                break


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _stated(text: str) -> frozenset[str]:
    """The facts that a text states of any thing or sound, in all dialects, without their places."""
    return frozenset(_PLACE.sub(r"\1.", fact) for dialect in DIALECTS for fact in facts(text, dialect))


def shown(prompt: str, pattern: re.Pattern[str]) -> dict[str, Any]:
    """The JSON values that a prompt's lines show, by the words before them."""
    return {name: json.loads(value) for name, value in pattern.findall(prompt)}
