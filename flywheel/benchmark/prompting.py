"""What a model is asked, in words."""

from __future__ import annotations

from collections.abc import Iterable

from flywheel.benchmark.items import FRAMES, LETTERS, SOUND, Item
from flywheel.models.prompt import Prompt

_CHOOSE = "Answer with the letter of the right option alone."
_SAY = "Answer with one word or a short phrase."
#: What is asked of a model whose ears are proven: letters alone would hardly tell.
LISTEN = "Describe all that you hear."
#: What is asked for captions of each medium alone.
DESCRIBE = {FRAMES: "Describe all that you see, in the order of time.", SOUND: LISTEN}


def asked(item: Item) -> str:
    """The words that stand after the video: the question, its options with letters, and how to answer."""
    if item.is_open:
        return f"{item.question}\n{_SAY}"
    options = [f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]
    return "\n".join([item.question, *options, _CHOOSE])


def with_transcript(said: str, question: str) -> str:
    """A question in words after what is said in the video."""
    return f"What is said in the video: {said}\n\n{question}"


def with_captions(seen: str, heard: str, question: str) -> str:
    """A question in words after what is seen and heard in the video."""
    return f"What is seen in the video: {seen}\nWhat is heard in it: {heard}\n\n{question}"


def prompt_of(role: str, inputs: Iterable[str]) -> Prompt:
    """The prompt by which a role's model is asked questions, for what starts it."""
    return Prompt(
        name="question",
        version=1,
        kind="caption",
        instruction=_CHOOSE,
        hints={},
        inputs=tuple(sorted(inputs)),  # type: ignore[arg-type]
        model=None if role == "main" else role,
    )
