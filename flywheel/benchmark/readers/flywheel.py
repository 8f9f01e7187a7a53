"""The questions that ``flywheel benchmark build`` makes: ``items.jsonl`` beside the folder of their videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        id=row["id"],
        question=row["question"],
        video=row["video"],
        options=row["options"],
        answer=row["answer"],
        type=row.get("type"),
        needs=BOTH & frozenset(row["needs"]),
        duration=row.get("duration_s"),
        licence=row.get("licence"),
    )


READER = Reader(
    title="questions built here",
    source="flywheel benchmark build --out DIR: DIR/items.jsonl",
    files=("items.jsonl",),
    fields=("id", "question", "video", "options", "answer", "needs"),
    drafts=_drafts,
)
