"""Conversations as chat templates take them (``train.jsonl``); videos stay in place, their span beside the path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flywheel.formats.export._files import QUESTION, as_json
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    with open(out / "train.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            about = {"id": row.id, "source": row.source, "round": row.round, "split": row.split}
            file.write(as_json({"messages": _messages(row), **about}) + "\n")


def _messages(row: ExportRow) -> list[dict[str, Any]]:
    # Every part has every key: readers of JSON lines infer one type for all parts.
    nothing = {"video": None, "video_start": None, "video_end": None, "text": None}
    video = {"type": "video", **nothing, "video": row.uri, "video_start": row.start_s, "video_end": row.end_s}
    question = {"type": "text", **nothing, "text": QUESTION}
    answer = {"type": "text", **nothing, "text": row.text}
    return [{"role": "user", "content": [video, question]}, {"role": "assistant", "content": [answer]}]


FORMAT = ExportFormat(write=_write, loading='datasets.load_dataset("json", data_files="train.jsonl")')
