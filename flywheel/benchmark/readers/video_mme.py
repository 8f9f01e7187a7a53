"""Video-MME: 2,700 questions about short, medium and long videos; also as VLMEvalKit's TSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    options = row.get("options", row.get("candidates"))
    if options is None:
        raise ValueError("has no column options or candidates")
    yield Draft(
        id=row.get("question_id", row.get("index")),
        question=row["question"],
        video=row.get("videoID") or row.get("video"),
        options=options,
        answer=row["answer"],
        type=row.get("task_type"),
        length=row.get("duration"),
    )


READER = Reader(
    title="Video-MME",
    source="lmms-lab/Video-MME: videomme/test-00000-of-00001.parquet; VLMEvalKit's Video-MME.tsv",
    files=("*.parquet", "*.tsv", "*.json", "*.jsonl"),
    fields=("question", "answer"),
    drafts=_drafts,
)
