"""Conversations in parts, as chat templates take them (``train.jsonl``); videos stay in place, their span beside the
path.

A part has the keys of its type alone: templates tell parts by the keys that are there, whatever these hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flywheel.formats.export._files import as_json, turns_of
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
    messages: list[dict[str, Any]] = []
    for question, answer in turns_of(row):
        shown = [] if messages else [video]
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


FORMAT = ExportFormat(
    write=_write,
    turns=True,
    # datasets.load_dataset would give every part all keys, and most templates then take each for a video.
    loading='[json.loads(line) for line in open("train.jsonl")]; paths are as seen from this folder',
)
