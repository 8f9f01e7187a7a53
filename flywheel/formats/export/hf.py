"""A folder for Hugging Face's ``videofolder``: clips as files, their texts in ``metadata.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flywheel.formats.export._files import as_json, write_video
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    with open(out / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            with row.border():
                if name := write_video(row, out):
                    file.write(as_json({"file_name": name, **row.about(out)}) + "\n")


FORMAT = ExportFormat(write=_write, loading='datasets.load_dataset("videofolder", data_dir=".")')
