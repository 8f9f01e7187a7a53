"""MVBench: twenty tasks of time, a JSON file each; the file's name is the task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, file: Path, _: Beside) -> Iterator[Draft]:
    bounds = (row.get("start"), row.get("end"))
    yield Draft(
        # Several questions are asked about a video, and none has a name.
        id=None,
        question=row["question"],
        video=row["video"],
        options=row["candidates"],
        answer=row["answer"],
        readings=("text", "letter"),
        type=file.stem,
        span=None if None in bounds else list(bounds),
    )


READER = Reader(
    title="MVBench",
    source="OpenGVLab/MVBench: json/TASK.json",
    files=("json/*.json", "*.json"),
    fields=("video", "question", "candidates", "answer"),
    drafts=_drafts,
)
