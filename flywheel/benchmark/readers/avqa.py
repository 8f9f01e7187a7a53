"""AVQA: questions about everyday videos, each marked by the medium that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH, FRAMES, SOUND
from flywheel.benchmark.readers._reader import Beside, Reader, Values

_NEEDS = {"View": frozenset({FRAMES}), "Sound": frozenset({SOUND}), "Both": BOTH}


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        id=row.get("id"),
        question=row["question_text"],
        video=row["video_name"],
        options=row["multi_choice"],
        answer=row["answer"],
        readings=("index",),
        type=row.get("question_type"),
        needs=_NEEDS.get(str(row.get("question_relation")), BOTH),
    )


READER = Reader(
    title="AVQA",
    source="AlyssaYoung/AVQA: data/val_qa.json",
    files=("val_qa.json", "*qa*.json"),
    fields=("question_text", "video_name", "multi_choice", "answer"),
    drafts=_drafts,
)
