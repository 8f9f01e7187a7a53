"""Conversations as LLaMA-Factory and ms-swift read them (``train.jsonl``), clips as files under ``videos/``.

A ``<video>`` in a message stands for the clip that ``videos`` lists; ``dataset_info.json`` names the columns to
LLaMA-Factory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from flywheel.formats.export._files import VIDEOS, as_json, plain, turns_of, write_video
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow

_INFO = {
    "train": {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "videos": "videos"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
}


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    (out / VIDEOS).mkdir()
    (out / "dataset_info.json").write_text(json.dumps(_INFO, indent=1) + "\n", encoding="utf-8")
    with open(out / "train.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            with row.border():
                if video := write_video(row, out):
                    file.write(as_json({"id": row.id, "messages": _messages(row), "videos": [video]}) + "\n")


def _messages(row: ExportRow) -> list[dict[str, str]]:
    messages = []
    for number, (question, answer) in enumerate(turns_of(row)):
        messages.append({"role": "user", "content": ("" if number else "<video>") + plain(question)})
        messages.append({"role": "assistant", "content": plain(answer)})
    return messages


FORMAT = ExportFormat(
    write=_write,
    turns=True,
    loading="in this folder: llamafactory-cli train … --dataset_dir . --media_dir . --dataset train; "
    "or swift sft … --dataset train.jsonl",
)
