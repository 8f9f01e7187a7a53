"""LLaVA's list of conversations (``data.json``), clips as files under ``videos/``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from flywheel.formats.export._files import VIDEOS, as_json, plain, turns_of, write_list, write_video
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
                item = as_json({"id": row.id, "video": video, "conversations": _turns(row)})
        if item:
            yield item


def _turns(row: ExportRow) -> list[dict[str, str]]:
    turns = []
    for number, (question, answer) in enumerate(turns_of(row)):
        turns.append({"from": "human", "value": ("" if number else "<video>\n") + plain(question)})
        turns.append({"from": "gpt", "value": plain(answer)})
    return turns


FORMAT = ExportFormat(write=_write, turns=True, loading='json.load(open("data.json"))')
