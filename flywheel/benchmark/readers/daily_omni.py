"""Daily-Omni: questions about everyday videos of 30 and 60 seconds with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    yield Draft(
        # Several questions are asked about a video, and none has a name.
        id=None,
        question=row["Question"],
        video=row["video_id"],
        options=row["Choice"],
        answer=row["Answer"],
        type=row.get("Type"),
        needs=BOTH,
        length=row.get("video_duration"),
    )


READER = Reader(
    title="Daily-Omni",
    source="Lliar-liar/Daily-Omni: qa.json; videos as Videos/ID/ID_video.mp4",
    files=("qa.json", "*.json"),
    fields=("Question", "Choice", "Answer", "video_id"),
    drafts=_drafts,
)
