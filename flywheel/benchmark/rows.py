"""Rows of item files: CSV, TSV, Parquet, JSON and JSON lines. A row that can't be read is a row with its problem."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError, first_line
from flywheel.core.foreign import parsed_json
from flywheel.formats.tables import Table

#: Where the rows of a JSON object lie that is not a mapping of rows.
_HELD = ("data", "questions", "items", "annotations", "rows")
#: Column of a row that stood under a name: that name.
NAME = "_name"
#: What is said of a video may hold its items beside it, in the order of these names.
_TASK = re.compile(r"task\d+\Z")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row by its columns, or the ``problem`` for which it is none; ``place`` is its file and number from 1."""

    place: str
    file: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def rows_of(file: Path, fields: Collection[str]) -> Iterator[Row]:
    """The rows of a file by its ending; ``fields`` tell a table's header. Raises UserError for what is no such file."""
    read = {".csv": _table, ".tsv": _table, ".parquet": _parquet, ".json": _json, ".jsonl": _lines}.get(
        file.suffix.lower()
    )
    if read is None:
        raise UserError(f"{file}: unknown ending. Item files end in .csv, .tsv, .parquet, .json or .jsonl.")
    try:
        for number, value in enumerate(read(file, fields), 1):
            place = f"{file.name}:{number}"
            if isinstance(value, Mapping):
                yield Row(place=place, file=file, values=value)
            else:
                yield Row(place=place, file=file, problem=str(value))
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}.") from error


def _table(file: Path, fields: Collection[str]) -> Iterator[Mapping[str, Any] | str]:
    with open(file, "rb") as stream:
        table = Table(stream, tuple(fields), tuple(fields))
        if not set(fields) & set(table.columns):
            raise ValueError(f"has none of the columns {', '.join(fields)}; has {table.shown_columns}")
        for row in table:
            yield row.problem or row.values


def _parquet(file: Path, _: Collection[str]) -> Iterator[Mapping[str, Any] | str]:
    try:
        frame = pl.scan_parquet(file)
        columns = [
            column for name, kind in frame.collect_schema().items() if (column := _column(name, kind)) is not None
        ]
        yield from frame.select(columns).collect().iter_rows(named=True)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"is no Parquet ({first_line(error)})") from error


def _column(name: str, kind: Any) -> pl.Expr | None:
    """A column without the bytes of pictures and sounds, of which the path alone is read."""
    if isinstance(kind, pl.Struct) and any(part.dtype == pl.Binary for part in kind.fields):
        paths = [part.name for part in kind.fields if part.name == "path"]
        return pl.col(name).struct.field("path").alias(name) if paths else None
    return None if kind == pl.Binary else pl.col(name)


def _json(file: Path, _: Collection[str]) -> Iterator[Mapping[str, Any] | str]:
    value = parsed_json(file.read_bytes())
    if isinstance(value, Mapping):
        value = next((value[name] for name in _HELD if isinstance(value.get(name), list)), value)
    if isinstance(value, Mapping):
        if not all(isinstance(part, Mapping | list) for part in value.values()):
            value = [value]
        else:
            value = [row for name, part in value.items() for row in _named(name, part)]
    if not isinstance(value, list):
        raise ValueError("holds no list of items")
    for row in value:
        yield row if isinstance(row, Mapping) else f"is no item but a {type(row).__name__}"


def _named(name: str, part: Any) -> list[dict[str, Any]]:
    """The rows under a name: one, or one for each of its tasks; a list under a name is its ``questions``."""
    if not isinstance(part, Mapping):
        return [{NAME: name, "questions": part}]
    about = {key: value for key, value in part.items() if not _TASK.match(key)}
    tasks = [value if isinstance(value, Mapping) else {} for key, value in part.items() if _TASK.match(key)]
    return [{NAME: name, **about, **task} for task in tasks or [{}]]


def _lines(file: Path, _: Collection[str]) -> Iterator[Mapping[str, Any] | str]:
    with open(file, "rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                value = parsed_json(line)
            except ValueError as error:
                yield f"is no JSON ({error})"
                continue
            yield value if isinstance(value, Mapping) else f"is no item but a {type(value).__name__}"
