"""Answers to questions with options, from a text alone: the letter of an option, or that the text does not tell.

``{"answers": [{"number", "answer"}]}``; questions are numbered from 1 on, an answer is ``A``, ``B``, … or ``none``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply

#: What is answered where the text does not tell.
NONE = "none"
_ANSWERS = (*"ABCDEFGHIJ", NONE)


def _read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
    payload = {"answers": [_answer(answer) for answer in value["answers"]]}
    numbers = [answer["number"] for answer in payload["answers"]]
    if not numbers or sorted(numbers) != list(range(1, len(numbers) + 1)):
        raise BrokenReply(f"answers are to questions 1, 2, 3, each once, not to {', '.join(map(str, numbers))[:80]}")
    return payload, _words(payload)


def _answer(value: Mapping[str, Any]) -> dict[str, Any]:
    number, answer = value["number"], value["answer"]
    if isinstance(number, bool) or not isinstance(number, int) or answer not in _ANSWERS:
        raise BrokenReply(f"an answer is a letter or {NONE} to a numbered question, not {answer!r} to {number!r}")
    return {"number": number, "answer": answer}


def _words(payload: Payload) -> str:
    return ", ".join(f"{answer['number']} {answer['answer']}" for answer in payload["answers"])


def _check(payload: Any, duration_s: float, _: Clean) -> Payload:
    try:
        return _read(payload, duration_s)[0]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the payload holds no answers ({type(error).__name__})") from error


KIND = Kind(
    name="answers", schema_key="answers", read=_read, words=_words, check=_check, inputs=(), hints=("text", "facts")
)
