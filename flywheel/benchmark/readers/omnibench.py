"""OmniBench: questions that need a picture and a sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        id=row.get("index"),
        question=row["question"],
        images=row.get("image_path") or row.get("image"),
        sounds=row.get("audio_path") or row.get("audio"),
        options=row["options"],
        answer=row["answer"],
        readings=("text", "letter"),
        type=row.get("task type"),
        needs=BOTH,
    )


READER = Reader(
    title="OmniBench",
    source="m-a-p/OmniBench: dataset/batch-5_1142_20240817.jsonl, or its Parquet",
    files=("*.jsonl", "*.parquet", "*.json"),
    fields=("question", "options", "answer"),
    drafts=_drafts,
)
