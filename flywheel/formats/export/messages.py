"""Conversations in parts, as chat templates take them (``train.jsonl``); videos stay in place, their span beside the
path.

A part has the keys of its type alone: templates tell parts by the keys that are there, whatever these hold.
"""

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
            with row.border():
                about = {"id": row.id, "source": row.source, "round": row.round, "split": row.split}
                file.write(as_json({"messages": _messages(row, out), **about}) + "\n")


def _messages(row: ExportRow, out: Path) -> list[dict[str, Any]]:
    span = {"video_start": row.start_s, "video_end": row.end_s}
    video = {"type": "video", "video": row.place(out), **span}
    question, answer = {"type": "text", "text": QUESTION}, {"type": "text", "text": row.text}
    return [{"role": "user", "content": [video, question]}, {"role": "assistant", "content": [answer]}]


FORMAT = ExportFormat(
    write=_write,
    # datasets.load_dataset would give every part all keys, and most templates then take each for a video.
    loading='[json.loads(line) for line in open("train.jsonl")]; paths are as seen from this folder',
)
