"""Corrections as JSON lines: an object a line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from flywheel.core.encodings import is_whole, open_text
from flywheel.core.foreign import parsed_json
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import blank_row
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    text, note = open_text(io.BytesIO(content))
    for line, raw in enumerate(text, 1):
        if raw.strip():
            row = _row(line, raw if is_whole(raw) else raw.encode("utf-8", "surrogateescape"))
            yield replace(row, note=note)
            note = ""


def _row(line: int, raw: str | bytes) -> CorrectionRow:
    try:
        values = parsed_json(raw)
    except ValueError as error:
        return CorrectionRow(line=line, problem=f"not JSON ({error})")
    if not isinstance(values, dict):
        return CorrectionRow(line=line, problem=f"must be an object, got {type(values).__name__}")
    return checked_row(line, values)


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    with open(out, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(blank_row(row)) + "\n")


FORMAT = CorrectionFormat(endings=(".jsonl",), read=_read, write=_write)
