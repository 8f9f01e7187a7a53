"""CaptionQA: multiple-choice questions about pictures, to be answered from a caption of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values
from flywheel.benchmark.rows import NAME


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    name = row.get("id", row.get(NAME))
    questions = row["questions"]
    if not isinstance(questions, list):
        raise ValueError("questions is no list")
    for number, asked in enumerate(questions):
        if not isinstance(asked, dict):
            raise ValueError("questions holds what is no question")
        yield Draft(
            id=f"{name}#{number}",
            question=asked.get("question"),
            images=name,
            options=asked.get("choices"),
            answer=asked.get("answer"),
            readings=("text", "letter"),
            type=asked.get("category"),
        )


READER = Reader(
    title="CaptionQA",
    source="bronyayang/CaptionQA: {picture: [{question, choices, answer, category}]}; Borise/CaptionQA",
    files=("*.json", "*.jsonl", "*.parquet"),
    fields=("questions",),
    drafts=_drafts,
)
