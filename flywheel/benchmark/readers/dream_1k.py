"""DREAM-1K: videos to be described, each with a description and its events for reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.readers._reader import Beside, Reader, Values

_ASKED = "Describe the video in detail."


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    about = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    yield Draft(
        id=row.get("idx", row.get("vid")),
        question=_part(row["messages"], "user", "text") or _ASKED,
        video=_part(row["messages"], "user", "video") or row.get("vid"),
        answer=_part(row["messages"], "assistant", "reference"),
        type=row.get("task"),
        duration=(about or {}).get("duration"),
    )


def _part(messages: Any, role: str, key: str) -> Any:
    """The first value of a key in a role's contents; a video may stand as a mapping with its file."""
    if not isinstance(messages, list):
        raise ValueError("messages is no list")
    for message in messages:
        if isinstance(message, dict) and message.get("role") == role:
            content = message.get("content")
            for part in content if isinstance(content, list) else [content]:
                if isinstance(part, dict) and part.get(key):
                    value = part[key]
                    return value.get("video_file", value.get("path")) if isinstance(value, dict) else value
    return None


READER = Reader(
    title="DREAM-1K",
    source="omni-research/DREAM-1K: json/metadata.json; bytedance/tarsier: data/annotations/DREAM-1k.jsonl",
    files=("DREAM-1k.jsonl", "*.jsonl"),
    fields=("messages",),
    drafts=_drafts,
)
