"""Corrections as a Parquet table."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from flywheel.core.border import is_of_one_item
from flywheel.core.errors import first_line
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._table import tables
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row

#: Rows, and characters in all, of a file: a small one can stand for a billion of either.
_MOST_ROWS, _MOST_CHARS = 1_000_000, 1 << 28


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    try:
        num_rows = pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item()
        if num_rows > _MOST_ROWS:
            raise ValueError(f"holds {num_rows} rows, at most {_MOST_ROWS} are taken at once")
        frame = pl.read_parquet(io.BytesIO(content))
    except BaseException as error:
        # Of some damaged files its reader gives up with what is no Exception.
        if isinstance(error, ValueError) or not is_of_one_item(error):
            raise
        raise ValueError(f"can't be read as Parquet ({first_line(error)})") from error
    taken = 0
    for line, row in enumerate(frame.iter_rows(named=True), 1):
        taken += sum(len(value) for value in row.values() if isinstance(value, str))
        if taken > _MOST_CHARS:
            raise ValueError(f"holds more than {_MOST_CHARS} characters of text")
        yield checked_row(line, {name: value for name, value in row.items() if value is not None})


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    pl.concat(list(tables(rows))).write_parquet(out)


# A column of one value, a billion times, weighs nothing.
FORMAT = CorrectionFormat(endings=(".parquet",), read=_read, write=_write, plain=False)
