"""AV-Odyssey: questions about pictures, sounds and videos, each named by a place in the question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        id=row["question_id"],
        question=row["question"],
        video=row.get("video_path"),
        images=row.get("image_path"),
        sounds=row.get("audio_path"),
        options=row["options"],
        answer=row["answer"],
        type=row.get("subfield"),
        needs=BOTH,
    )


READER = Reader(
    title="AV-Odyssey",
    source="AV-Odyssey/AV_Odyssey_Bench: av_odyssey_part*.parquet",
    files=("*.parquet", "*.jsonl", "*.json"),
    fields=("question_id", "question", "options", "answer"),
    drafts=_drafts,
)
