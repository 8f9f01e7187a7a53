"""Choices between two texts as files, in the columns in which they are read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.formats.corrections.csv import write_tables
from flywheel.formats.rows import CHOICE_OPTIONAL, CHOICE_REQUIRED

Rows = Iterable[Mapping[str, Any]]
_COLUMNS = (*CHOICE_REQUIRED, *CHOICE_OPTIONAL)
#: Rows that are in memory at a time.
_AT_A_TIME = 10_000


def writer_of(out: Path) -> Callable[[Rows, Path], None]:
    """What writes rows into a file, by the name that the file is to have; JSON lines for one without an ending.

    Raises UserError for an ending that choices are not written as.
    """
    ending = out.suffix.lower() or ".jsonl"
    if ending not in _WRITERS:
        raise UserError(f"{out}: choices between texts are written as {', '.join(_WRITERS)}. Name the file so.")
    return _WRITERS[ending]


def _jsonl(rows: Rows, out: Path) -> None:
    with open(out, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(row)) + "\n")


def _csv(rows: Rows, out: Path) -> None:
    write_tables(_tables(rows), out)


def _parquet(rows: Rows, out: Path) -> None:
    pl.concat(list(_tables(rows))).write_parquet(out)


def _tables(rows: Rows) -> Iterator[pl.DataFrame]:
    """The rows as frames of text, one at least."""
    stream = iter(rows)
    part = list(islice(stream, _AT_A_TIME))
    while True:
        cells = {name: [str(row.get(name, "")) for row in part] for name in _COLUMNS}
        yield pl.DataFrame(cells, schema=dict.fromkeys(_COLUMNS, pl.String))
        if not (part := list(islice(stream, _AT_A_TIME))):
            return


_WRITERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
