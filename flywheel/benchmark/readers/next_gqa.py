"""NExT-GQA: NExT-QA's questions with the spans in which each answer is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values

_OPTIONS = ("a0", "a1", "a2", "a3", "a4")


def _drafts(row: Values, file: Path, beside: Beside) -> Iterator[Draft]:
    video, qid = str(row["video_id"]).strip(), str(row["qid"]).strip()
    grounds = beside.json(f"gsub_{file.stem}.json").get(video, {})
    yield Draft(
        id=f"{video}_{qid}",
        question=row["question"],
        video=str(beside.json("map_vid_vidorID.json").get(video, video)),
        options=[row.get(name) for name in _OPTIONS],
        answer=row["answer"],
        readings=("text", "index"),
        type=row.get("type"),
        evidence=grounds.get("location", {}).get(qid),
        duration=grounds.get("duration"),
    )


READER = Reader(
    title="NExT-GQA",
    source="doc-doc/NExT-GQA: datasets/nextgqa/test.csv, gsub_test.json",
    files=("test.csv", "*.csv"),
    fields=("video_id", "question", "answer", "qid"),
    drafts=_drafts,
)
