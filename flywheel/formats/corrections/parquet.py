"""Corrections as a Parquet table."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from flywheel.core.errors import first_line
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import tables
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"can't be read as Parquet ({first_line(error)})") from error
    for line, row in enumerate(frame.iter_rows(named=True), 1):
        yield checked_row(line, {name: value for name, value in row.items() if value is not None})


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    pl.concat(list(tables(rows))).write_parquet(out)


# A column of one value, a billion times, weighs nothing.
FORMAT = CorrectionFormat(endings=(".parquet",), read=_read, write=_write, plain=False)
