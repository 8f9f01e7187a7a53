"""NExT-QA: questions of cause, time and description; also its open questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values

_OPTIONS = ("a0", "a1", "a2", "a3", "a4")


def _drafts(row: Values, _: Path, beside: Beside) -> Iterator[Draft]:
    video = str(row["video"]).strip()
    places = beside.json("map_vid_vidorID.json")
    is_open = "a0" not in row
    yield Draft(
        id=f"{video}_{row.get('qid', '')}",
        question=row["question"],
        video=str(places.get(video, video)),
        options=None if is_open else [row.get(name) for name in _OPTIONS],
        answer=[row["answer"], *filter(None, [row.get("additional_ref_answer")])] if is_open else row["answer"],
        readings=("index",),
        type=row.get("type"),
    )


READER = Reader(
    title="NExT-QA",
    source="doc-doc/NExT-QA: dataset/nextqa/test.csv, map_vid_vidorID.json",
    files=("test.csv", "*.csv", "*.parquet"),
    fields=("video", "question", "answer"),
    drafts=_drafts,
)
