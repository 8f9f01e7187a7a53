"""MSR-VTT-QA: open questions about short videos, each answered by one word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    video = str(row["video_id"])
    yield Draft(
        id=row.get("id"),
        question=row["question"],
        video=f"video{video}" if video.isdecimal() else video,
        answer=row["answer"],
        type=str(row["question"]).split(" ", 1)[0].casefold(),
    )


READER = Reader(
    title="MSR-VTT-QA",
    source="xudejing/video-question-answering: test_qa.json",
    files=("test_qa.json", "*qa*.json", "*.jsonl", "*.csv"),
    fields=("video_id", "question", "answer"),
    drafts=_drafts,
)
