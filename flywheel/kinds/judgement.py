"""How well what is seen and what is heard go together: five scores, each with its reason, and three lists.

``{"temporal": {"reason", "score"}, …, "seen_and_heard": […], "heard_unseen": […], "seen_silent": […]}``; scores are
whole numbers from 0 to 10, the criteria those of AVVA (arXiv 2503.09205).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.core.types import CRITERIA
from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply, parse_caption

#: Lists of things: seen and heard, heard but not seen, seen but silent.
SOURCES = ("seen_and_heard", "heard_unseen", "seen_silent")
LEAST, MOST = 0, 10


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    if unknown := sorted(set(value) - {*CRITERIA, *SOURCES}):
        raise BrokenReply(f"a judgement has no '{unknown[0][:40]}'")
    payload = {name: _judged(name, value) for name in CRITERIA}
    return {**payload, **{name: _things(name, value[name]) for name in SOURCES}}, _words(payload)


def _things(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise BrokenReply(f"{name} is no list")
    return [parse_caption(thing) for thing in value]


def _judged(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if name not in value:
        raise BrokenReply(f"the score '{name}' is missing")
    reason, score = value[name]["reason"], value[name]["score"]
    if isinstance(score, bool) or not isinstance(score, int) or not LEAST <= score <= MOST:
        raise BrokenReply(f"{name}: a score is a whole number from {LEAST} to {MOST}, not {str(score)[:40]!r}")
    return {"reason": parse_caption(reason), "score": score}


def _words(payload: Payload) -> str:
    # Each reason once: a judge that says of all five that nothing is heard does not repeat itself without end.
    return " ".join(dict.fromkeys(payload[name]["reason"] for name in CRITERIA))


def _check(payload: Any, duration_s: float, clean: Clean) -> Payload:
    try:
        kept, _ = _read(payload, duration_s)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload is no judgement ({type(error).__name__})") from error
    judged = {name: {**kept[name], "reason": clean(kept[name]["reason"])} for name in CRITERIA}
    return {**judged, **{name: [clean(thing) for thing in kept[name]] for name in SOURCES}}


KIND = Kind(
    name="judgement",
    schema_key=CRITERIA[0],
    read=_read,
    words=_words,
    check=_check,
    inputs=(),
    hints=("seen", "heard"),
)
