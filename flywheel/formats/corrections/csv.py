"""Corrections as CSV with a header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import tables
from flywheel.formats.rows import REQUIRED, CorrectionRow, ReviewRow, checked_row

#: What a cell begins with that a spreadsheet takes for a formula. Such a cell is written with an apostrophe before it,
#: and one that has apostrophes before it already with one more, so that it comes back as it went out.
_FORMULA = r"=+\-@\t\r"
_WRITTEN = re.compile(f"'+[{_FORMULA}]")


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    # Undecodable bytes become lone surrogates, so that one bad cell costs one row and not the file.
    text = content.decode("utf-8-sig", errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = _header(cells)
            elif any(cells):
                yield _row(reader.line_num, header, cells)
    except csv.Error as error:
        yield CorrectionRow(line=reader.line_num, problem=f"not CSV ({error})")


def _header(cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if missing := [name for name in REQUIRED if name not in header]:
        columns = "column" if len(missing) == 1 else "columns"
        raise ValueError(f"needs the {columns} {', '.join(missing)}; has {', '.join(header)}")
    return header


def _row(line: int, header: Sequence[str], cells: Sequence[str]) -> CorrectionRow:
    if len(cells) != len(header):
        return CorrectionRow(line=line, problem=f"has {len(cells)} cells, the header has {len(header)}")
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError:
        return CorrectionRow(line=line, problem="not valid UTF-8")
    return checked_row(line, dict(zip(header, map(_as_typed, cells), strict=True)))


def _as_typed(cell: str) -> str:
    """A cell without the apostrophe that it was written with, so that no spreadsheet takes it for a formula."""
    return cell[1:] if _WRITTEN.match(cell) else cell


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    with open(out, "wb") as file:
        for number, frame in enumerate(tables(rows)):
            frame = frame.with_columns(pl.col(pl.String).str.replace(f"^('*[{_FORMULA}])", "'${1}"))
            frame.write_csv(file, include_header=number == 0)


FORMAT = CorrectionFormat(endings=(".csv",), read=_read, write=_write)
