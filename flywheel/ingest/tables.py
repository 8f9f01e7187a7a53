"""Tables of videos as files: JSON lines, JSON, Parquet, Arrow, CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError, first_line
from flywheel.core.foreign import parsed_json
from flywheel.ingest.arrow_files import arrow_rows, parquet_rows
from flywheel.ingest.items import FILE, FOLDER, Item, Rules
from flywheel.ingest.json_files import Broken, json_values
from flywheel.ingest.rows import PATH_NAMES, says_no_video
from flywheel.ingest.table import Table

#: Endings of tables.
TABLES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv")
#: Rows of a CSV table that are held at a time.
_TABLE_ROWS = 10_000
#: The longest line of JSON, in characters.
_MOST_LINE = 1 << 24


def table(file: Path, folder: Path, media_folder: Path, rules: Rules) -> Iterator[Item]:
    """The items of a table whose paths are relative to ``folder``. Raises UserError where it can't be read."""
    of_rows = Table(folder=folder, file=file, media_folder=media_folder, rules=rules)
    ending = file.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        yield from _numbered(of_rows, _json_lines(file), "line")
    elif ending == ".json":
        yield from _json(of_rows, file)
    elif ending == ".csv":
        yield from of_rows.items(_csv(file))
    else:
        also = () if rules.split_key in (FILE, FOLDER) else (rules.split_key,)
        rows = parquet_rows(file, also) if ending == ".parquet" else arrow_rows(file, also)
        yield from _numbered(of_rows, enumerate(rows, 1), "row")


def _numbered(of_rows: Table, rows: Iterable[tuple[int, Any]], what: str) -> Iterator[Item]:
    for number, row in rows:
        if isinstance(row, Broken):
            yield Item(path=of_rows.file, problem=f"{what} {number}: {row}")
        else:
            yield from of_rows.of_row(row, f"{what} {number}")


def _json(of_rows: Table, file: Path) -> Iterator[Item]:
    try:
        yield from _numbered(of_rows, enumerate(json_values(file), 1), "entry")
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: can't be read as a table ({first_line(error)}).") from error


def _csv(file: Path) -> Iterator[Any]:
    try:
        rows = pl.scan_csv(file, infer_schema_length=None, glob=False)
        columns = rows.collect_schema().names()
        if says_no_video(columns):
            raise UserError(
                f"{file}: needs a column with the videos' paths, one of {', '.join(PATH_NAMES[:8])}; "
                f"has {', '.join(columns)}."
            )
        # In parts: a table may be longer than memory holds.
        for part in rows.collect_batches(chunk_size=_TABLE_ROWS, maintain_order=True):
            yield from part.iter_rows(named=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: can't be read as a table ({error}).") from error


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """(number, value) of each line that is not empty."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        number = 0
        while line := lines.readline(_MOST_LINE):
            number += 1
            if not line.endswith("\n") and len(line) == _MOST_LINE:
                while rest := lines.readline(_MOST_LINE):
                    if rest.endswith("\n"):
                        break
                yield number, Broken(f"is longer than {_MOST_LINE} characters")
            elif line.strip():
                yield number, _line(line)


def _line(line: str) -> Any:
    try:
        return parsed_json(line)
    except ValueError as error:
        return Broken(f"not JSON ({str(error).partition(' at character ')[0]})")
