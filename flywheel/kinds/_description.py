"""Descriptions of what one medium alone holds: texts by name, and events with their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flywheel.core.types import Cue
from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption
from flywheel.kinds._timed import model_cue

#: Longest part of a description by its characters that is no part at all: models write these for nothing.
_NOTHING = frozenset({"", "none", "n/a", "na", "null", "nothing", "unknown", "-"})


def description(name: str, *, inputs: tuple[str, ...], texts: Sequence[str], nothing: str) -> Kind:
    """The kind ``{TEXT: words, …, "events": [{"start_s", "end_s", "text"}]}``, made from ``inputs`` alone.

    Any part may be empty. Where all are, the words are ``nothing``: that there is nothing is a finding too.
    """

    def read(value: Mapping[str, Any], duration_s: float) -> tuple[Payload, str]:
        payload = {part: _words_of(str(value.get(part) or "")) for part in texts}
        whole = {**payload, "events": _in_order(model_cue(event, duration_s) for event in value["events"])}
        return whole, words(whole)

    def words(payload: Payload) -> str:
        parts = [*(payload[part] for part in texts), *(event["text"] for event in payload["events"])]
        return " ".join(part if part[-1] in ".!?;" else f"{part}." for part in parts if part) or nothing

    def hint(payload: Payload) -> str:
        events = "; ".join(f"[{e['start_s']:.1f}-{e['end_s']:.1f}] {e['text']}" for e in payload["events"])
        parts = [("events", events), *((part, payload[part]) for part in texts)]
        return ". ".join(f"{part}: {text}" for part, text in parts if text) or nothing

    def check(payload: Any, duration_s: float, clean: Clean) -> Payload:
        return _checked(payload, texts, duration_s, clean)

    def cues(payload: Payload) -> tuple[Cue, ...]:
        return tuple(Cue(start_s=e["start_s"], end_s=e["end_s"], text=e["text"]) for e in payload["events"])

    return Kind(
        name=name,
        schema_key="events",
        read=read,
        words=words,
        check=check,
        cues=cues,
        hint=hint,
        inputs=inputs,
        hints=(),
    )


def _words_of(text: str) -> str:
    """The words of a part; empty where the model says that there is nothing."""
    return "" if text.strip().rstrip(".").lower() in _NOTHING else parse_caption(text)


def _in_order(cues: Any) -> list[dict[str, Any]]:
    return [asdict(cue) for cue in sorted(cues, key=lambda c: (c.start_s, c.end_s, c.text))]


def _checked(payload: Any, texts: Sequence[str], duration_s: float, clean: Callable[[str], str]) -> Payload:
    try:
        parts = {part: clean(payload[part]) if payload[part] else "" for part in texts}
        cues = [model_cue({**event, "text": clean(event["text"])}, duration_s) for event in payload["events"]]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the payload holds no events ({type(error).__name__})") from error
    return {**parts, "events": _in_order(cues)}
