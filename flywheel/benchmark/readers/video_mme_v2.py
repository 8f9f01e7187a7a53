"""Video-MME-v2: groups of four linked questions with eight options, scored together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.groups import KINDS, STRUCTURES, steps_of
from flywheel.benchmark.items import Group
from flywheel.benchmark.readers._reader import Beside, Reader, Values
from flywheel.benchmark.wording import listed


def _drafts(row: Values, _: Path, beside: Beside) -> Iterator[Draft]:
    # A group's rows stand together, in the order of its structure.
    place = beside.nth(str(row["video_id"]))
    yield Draft(
        id=row["question_id"],
        question=row["question"],
        video=row["video_id"],
        options=row["options"],
        answer=row["answer"],
        type=row.get("second_head"),
        length=None if row.get("level") is None else f"level {row['level']}",
        group=_group(row, place),
    )


def _group(row: Values, place: int) -> Group:
    kind = str(row["group_type"])
    if kind not in KINDS:
        raise ValueError(f"group_type '{kind[:40]}' is unknown; there are {' and '.join(KINDS)}")
    steps = steps_of(listed(row.get("group_structure"))) if kind == "logic" else ()
    if kind == "logic" and steps not in STRUCTURES:
        raise ValueError(f"group_structure '{str(row.get('group_structure'))[:40]}' is unknown")
    return Group(id=str(row["video_id"]), kind=kind, steps=steps, place=place)


READER = Reader(
    title="Video-MME-v2",
    source="MME-Benchmarks/Video-MME-v2: evaluation/test_video_mme_v2.py",
    files=("*.parquet", "*.tsv", "*.jsonl"),
    fields=("video_id", "question_id", "question", "options", "answer", "group_type"),
    drafts=_drafts,
)
