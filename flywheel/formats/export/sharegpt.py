"""Conversations as LLaMA-Factory and ms-swift read them (``train.jsonl``), clips as files under ``videos/``.

A ``<video>`` in a message stands for the clip that ``videos`` lists; ``dataset_info.json`` names the columns to
LLaMA-Factory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from flywheel.formats.export._files import QUESTION, VIDEOS, as_json, plain, write_video
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
                    question = {"role": "user", "content": f"<video>{QUESTION}"}
                    answer = {"role": "assistant", "content": plain(row.text)}
                    file.write(as_json({"id": row.id, "messages": [question, answer], "videos": [video]}) + "\n")


FORMAT = ExportFormat(
    write=_write,
    loading="in this folder: llamafactory-cli train … --dataset_dir . --media_dir . --dataset train; "
    "or swift sft … --dataset train.jsonl",
)
