"""WorldSense: questions about videos with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values
from flywheel.benchmark.rows import NAME


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        id=row.get("index"),
        question=row["question"],
        video=row.get("video_path") or row.get("video") or row.get(NAME),
        options=row["candidates"],
        answer=row["answer"],
        type=row.get("task_type"),
        needs=BOTH,
        duration=row.get("video_duration"),
        length=row.get("duration"),
    )


READER = Reader(
    title="WorldSense",
    source="JaaackHongggg/WorldSense; worldsense_qa.json and VLMEvalKit's WorldSense.tsv",
    files=("*.tsv", "*.parquet", "*.json", "*.jsonl"),
    fields=("question", "candidates", "answer"),
    drafts=_drafts,
)
