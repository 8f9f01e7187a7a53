"""OmniVideoBench: questions with the steps of reasoning to each answer, a video's together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH, FRAMES, SOUND
from flywheel.benchmark.readers._reader import Beside, Reader, Values


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    questions = row["questions"]
    if not isinstance(questions, list):
        raise ValueError("questions is no list")
    for asked in questions:
        if not isinstance(asked, dict):
            raise ValueError("questions holds what is no question")
        yield Draft(
            id=None,
            question=asked.get("question"),
            video=row["video"],
            options=asked.get("options"),
            answer=asked.get("correct_option", asked.get("answer")),
            type=asked.get("question_type"),
            needs=_needs(asked.get("reasoning_steps")),
            duration=row.get("duration"),
        )


def _needs(steps: Any) -> frozenset[str]:
    """The media of the steps of reasoning; both where they do not say."""
    named = {str(step.get("modality", "")).casefold() for step in steps or () if isinstance(step, dict)}
    media = {FRAMES} if any("vis" in name for name in named) else set[str]()
    media |= {SOUND} if any("aud" in name for name in named) else set[str]()
    return frozenset(media) or BOTH


READER = Reader(
    title="OmniVideoBench",
    source="NJU-LINK/OmniVideoBench: data.json",
    files=("data.json", "*.json"),
    fields=("video", "questions"),
    drafts=_drafts,
)
