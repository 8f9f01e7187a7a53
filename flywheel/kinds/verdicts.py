"""Whether a text supports each of the facts of another one, contradicts it, or leaves it open.

``{"verdicts": [{"number", "verdict"}]}``; facts are numbered from 1 on, in the order in which they were asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply

SUPPORTED, CONTRADICTED, OPEN = VERDICTS = ("supported", "contradicted", "open")


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = {"verdicts": [_verdict(verdict) for verdict in value["verdicts"]]}
    numbers = [verdict["number"] for verdict in payload["verdicts"]]
    if not numbers or sorted(numbers) != list(range(1, len(numbers) + 1)):
        raise BrokenReply(f"verdicts are of facts 1, 2, 3, each once, not of {', '.join(map(str, numbers))[:80]}")
    return payload, _words(payload)


def _verdict(value: Mapping[str, Any]) -> dict[str, Any]:
    number, verdict = value["number"], value["verdict"]
    if isinstance(number, bool) or not isinstance(number, int) or verdict not in VERDICTS:
        raise BrokenReply(f"a verdict is {', '.join(VERDICTS)} on a numbered fact, not {verdict!r} on {number!r}")
    return {"number": number, "verdict": verdict}


def _words(payload: Payload) -> str:
    counts = Counter(verdict["verdict"] for verdict in payload["verdicts"])
    return ", ".join(f"{counts[name]} {name}" for name in VERDICTS)


def _check(payload: Any, duration_s: float, _: Clean) -> Payload:
    try:
        return _read(payload, duration_s)[0]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no verdicts ({type(error).__name__})") from error


KIND = Kind(
    name="verdicts", schema_key="verdicts", read=_read, words=_words, check=_check, inputs=(), hints=("text", "facts")
)
