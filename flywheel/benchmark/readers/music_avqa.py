"""Music-AVQA: open questions about performances, answered by one of 42 words; its column of answers is ``anser``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH, FRAMES, SOUND
from flywheel.benchmark.readers._reader import Beside, Reader, Values
from flywheel.benchmark.wording import listed

_NEEDS = {"Audio": frozenset({SOUND}), "Visual": frozenset({FRAMES}), "Audio-Visual": BOTH}


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    kinds = listed(row.get("type"))
    yield Draft(
        id=row.get("question_id"),
        question=_asked(str(row["question_content"]), [str(word) for word in listed(row.get("templ_values"))]),
        video=row["video_id"],
        answer=row["anser"],
        type=kinds,
        needs=_NEEDS.get(str(kinds[0]) if kinds else "", BOTH),
    )


def _asked(question: str, values: list[str]) -> str:
    """The question with each of its places (``<Object>``) filled with the next value."""
    words = question.split()
    for number, word in enumerate(words):
        name = word.strip("?.,")
        if name.startswith("<") and name.endswith(">"):
            if not values:
                raise ValueError(f"templ_values holds nothing for {name}")
            words[number] = word.replace(name, values.pop(0))
    return " ".join(words)


READER = Reader(
    title="Music-AVQA",
    source="GeWu-Lab/MUSIC-AVQA: data/json/avqa-test.json",
    files=("avqa-test.json", "*.json"),
    fields=("question_content", "video_id", "anser"),
    drafts=_drafts,
)
