"""LLaVA's list of conversations (``data.json``), clips as files under ``videos/``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from flywheel.formats.export._files import QUESTION, VIDEOS, as_json, plain, write_list, write_video
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    (out / VIDEOS).mkdir()
    write_list(_conversations(rows, out), out / "data.json")


def _conversations(rows: Iterable[ExportRow], out: Path) -> Iterator[str]:
    for row in rows:
        item = ""
        with row.border():
            if video := write_video(row, out):
                question = {"from": "human", "value": f"<video>\n{QUESTION}"}
                answer = {"from": "gpt", "value": plain(row.text)}
                item = as_json({"id": row.id, "video": video, "conversations": [question, answer]})
        if item:
            yield item


FORMAT = ExportFormat(write=_write, loading='json.load(open("data.json"))')
