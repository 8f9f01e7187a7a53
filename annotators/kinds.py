"""The kinds of text: from what an engine wrote to the text and the structure that are kept.

A caption is its text. ``dense_caption``, ``qa`` and ``tags`` are replied as JSON objects; their structure is kept as the payload and
their words as the text, so that every measure of texts works on them too. Times are seconds from the clip's start.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema

from annotators.parsing import Unusable, parse_caption

#: An end that lies so far beyond the clip's (seconds) is meant as its end.
_GRACE_S = 0.25
_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.S)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """``payload`` is canonical JSON, empty for a caption."""

    text: str
    payload: str = ""


class BrokenReply(Unusable):
    """The reply is not of the form that was asked for."""


def read(kind: str, text: str, *, schema: str = "", duration_s: float = math.inf) -> Reply:
    """What a reply of this kind says. Raises Unusable where it says nothing, BrokenReply where it breaks its form (``schema`` is
    JSON text, empty for the form of the kind alone)."""
    if kind not in _READERS:
        return Reply(text=parse_caption(text))
    if not text.strip():
        raise Unusable("the model wrote nothing")
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError) as error:
        raise BrokenReply(f"the reply is not JSON ({error})") from error
    if schema and (problem := jsonschema.exceptions.best_match(_validator(schema).iter_errors(value))) is not None:
        where = problem.json_path.removeprefix("$").lstrip(".")
        raise BrokenReply(f"the reply breaks its schema ({where + ': ' if where else ''}{problem.message[:200]})")
    try:
        payload, words = _READERS[kind](value, duration_s)
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenReply(f"the reply is no {kind} ({type(error).__name__}: {error})") from error
    return Reply(text=parse_caption(words), payload=json.dumps(payload, ensure_ascii=False, sort_keys=True))


@lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema))


def _cues(value: Mapping[str, Any], duration_s: float) -> tuple[dict[str, Any], str]:
    cues: list[dict[str, Any]] = []
    for cue in value["cues"]:
        start_s, end_s = float(cue["start_s"]), float(cue["end_s"])
        if not 0 <= start_s < end_s <= duration_s + _GRACE_S:
            raise BrokenReply(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{start_s:g}, {end_s:g})")
        end_s = min(end_s, duration_s)
        if start_s >= end_s:
            raise BrokenReply(f"the cue at {start_s:g} s begins at the clip's end")
        cues.append({"start_s": start_s, "end_s": end_s, "text": parse_caption(cue["text"])})
    cues.sort(key=lambda c: (c["start_s"], c["end_s"]))
    return {"cues": cues}, " ".join(c["text"] for c in cues)


def _pairs(value: Mapping[str, Any], _: float) -> tuple[dict[str, Any], str]:
    pairs = [{"question": parse_caption(p["question"]), "answer": parse_caption(p["answer"])} for p in value["pairs"]]
    return {"pairs": pairs}, " ".join(f"{p['question']} {p['answer']}" for p in pairs)


def _tags(value: Mapping[str, Any], _: float) -> tuple[dict[str, Any], str]:
    # The same tag twice says no more than once.
    tags = list(dict.fromkeys(parse_caption(tag).lower() for tag in value["tags"]))
    return {"tags": tags}, ", ".join(tags)


_READERS: dict[str, Callable[[Mapping[str, Any], float], tuple[dict[str, Any], str]]] = {
    "dense_caption": _cues,
    "qa": _pairs,
    "tags": _tags,
}
