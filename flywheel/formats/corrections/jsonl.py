"""Corrections as JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import blank_row
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    for line, raw in enumerate(content.split(b"\n"), 1):
        if raw.strip():
            yield _row(line, raw)


def _row(line: int, raw: bytes) -> CorrectionRow:
    try:
        values = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return CorrectionRow(line=line, problem=f"not valid UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        return CorrectionRow(line=line, problem=f"not JSON ({error.msg} at character {error.pos})")
    except RecursionError:
        return CorrectionRow(line=line, problem="not JSON (nested too deeply)")
    except ValueError as error:
        # A number of more digits than Python reads.
        return CorrectionRow(line=line, problem=f"not JSON ({error})")
    if not isinstance(values, dict):
        return CorrectionRow(line=line, problem=f"must be an object, got {type(values).__name__}")
    return checked_row(line, values)


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    with open(out, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(blank_row(row)) + "\n")


FORMAT = CorrectionFormat(endings=(".jsonl",), read=_read, write=_write)
