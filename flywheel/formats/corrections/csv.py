"""Corrections as CSV with a header."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import tables
from flywheel.formats.rows import (
    CHOICE_OPTIONAL,
    CHOICE_REQUIRED,
    OPTIONAL,
    REQUIRED,
    CorrectionRow,
    ReviewRow,
    checked_row,
    known_columns,
)
from flywheel.formats.tables import ENDINGS, Table, TableRow

_COLUMNS = tuple(dict.fromkeys((*REQUIRED, *OPTIONAL, *CHOICE_REQUIRED, *CHOICE_OPTIONAL)))

#: What a cell begins with that a spreadsheet takes for a formula. Such a cell is written with an apostrophe before it,
#: and one that has apostrophes before it already with one more, so that it comes back as it went out.
_FORMULA = r"=+\-@\t\r"
_WRITTEN = re.compile(f"'+[{_FORMULA}]")


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    table = Table(io.BytesIO(content), _COLUMNS, (*REQUIRED, *CHOICE_REQUIRED))
    needed = CHOICE_REQUIRED if CHOICE_REQUIRED[0] in table.columns else REQUIRED
    if missing := [name for name in needed if name not in table.columns]:
        columns = "column" if len(missing) == 1 else "columns"
        raise ValueError(f"needs the {columns} {', '.join(missing)}; has {table.shown_columns}")
    note = table.note
    for row in table:
        yield replace(_checked(row), note=note)
        note = ""


def _checked(row: TableRow) -> CorrectionRow:
    if row.problem:
        return CorrectionRow(line=row.line, problem=row.problem)
    # Spreadsheets save columns that nobody filled.
    known = known_columns(row.values)
    cells = {name: _as_typed(cell) for name, cell in row.values.items() if cell.strip() or name in known}
    return checked_row(row.line, cells)


def _as_typed(cell: str) -> str:
    """A cell without the apostrophe that it was written with, so that no spreadsheet takes it for a formula."""
    return cell[1:] if _WRITTEN.match(cell) else cell


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    write_tables(tables(rows), out)


def write_tables(frames: Iterable[pl.DataFrame], out: Path) -> None:
    """Write frames one after the other, with one header, so that no spreadsheet takes a text for a formula."""
    with open(out, "wb") as file:
        for number, frame in enumerate(frames):
            frame = frame.with_columns(pl.col(pl.String).str.replace(f"^('*[{_FORMULA}])", "'${1}"))
            frame.write_csv(file, include_header=number == 0)


FORMAT = CorrectionFormat(endings=ENDINGS, read=_read, write=_write)
