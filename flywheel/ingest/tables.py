"""Tables of videos as files: JSON lines, JSON, Parquet, Arrow, CSV and the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from flywheel.core.encodings import is_whole, open_text
from flywheel.core.errors import UserError, first_line
from flywheel.core.foreign import parsed_json
from flywheel.formats import tables
from flywheel.ingest.arrow_files import arrow_rows, parquet_rows
from flywheel.ingest.items import FILE, FOLDER, Item, Rules
from flywheel.ingest.json_files import Broken, json_values
from flywheel.ingest.notes import Note
from flywheel.ingest.passed import NoVideosError
from flywheel.ingest.rows import NAMES, PATH_NAMES, VIDEO_NAMES, says_no_video
from flywheel.ingest.table import Table

#: Endings of tables.
TABLES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", *tables.ENDINGS)
#: The longest line of JSON, in characters.
_MOST_LINE = 1 << 24


def table(file: Path, folder: Path, media_folder: Path, rules: Rules) -> Iterator[Item]:
    """The items of a table whose paths are relative to ``folder``. Raises UserError where it can't be read."""
    of_rows = Table(folder=folder, file=file, media_folder=media_folder, rules=rules)
    ending = file.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        yield from _json_lines(of_rows, file)
    elif ending == ".json":
        yield from _json(of_rows, file)
    elif ending in tables.ENDINGS:
        yield from _text_table(of_rows, file)
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
        with open(file, "rb") as content:
            text, note = open_text(content)
            yield from _noted(file, note, _numbered(of_rows, enumerate(json_values(text), 1), "entry"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: can't be read as a table ({first_line(error)}).") from error


def _text_table(of_rows: Table, file: Path) -> Iterator[Item]:
    """The items of a table as text; what was guessed to read it is noted with the first."""
    also = () if of_rows.rules.split_key in (FILE, FOLDER) else (of_rows.rules.split_key,)
    try:
        with open(file, "rb") as stream:
            table = tables.Table(stream, (*NAMES, *also), VIDEO_NAMES, pad=True)
            if says_no_video(table.columns):
                raise NoVideosError(
                    f"{file}: needs a column with the videos' paths, one of {', '.join(PATH_NAMES[:8])}; "
                    f"has {table.shown_columns}."
                )
            yield from _noted(file, table.note, _numbered(of_rows, _cells(table), "row"))
    except ValueError as error:
        raise UserError(f"{file}: can't be read as a table: {error}.") from error
    except OSError as error:
        raise UserError(f"{file}: can't be read as a table ({first_line(error)}).") from error


def _cells(table: tables.Table) -> Iterator[tuple[int, Any]]:
    """(number, cells by their columns) of each row; an empty cell is none."""
    for number, row in enumerate(table, 1):
        if row.problem:
            yield number, Broken(f"{row.problem}, in line {row.line}")
        else:
            yield number, {name: cell or None for name, cell in row.values.items()}


def _noted(file: Path, note: str, items: Iterable[Item]) -> Iterator[Item]:
    notes = (Note(of=str(file), what=note),) if note else ()
    for item in items:
        yield replace(item, notes=notes) if notes else item
        notes = ()


def _json_lines(of_rows: Table, file: Path) -> Iterator[Item]:
    with open(file, "rb") as content:
        lines, note = open_text(content)
        yield from _noted(file, note, _numbered(of_rows, _values(lines), "line"))


def _values(lines: TextIO) -> Iterator[tuple[int, Any]]:
    """(number, value) of each line that is not empty."""
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
        return parsed_json(line) if is_whole(line) else Broken("not valid UTF-8")
    except ValueError as error:
        return Broken(f"not JSON ({str(error).partition(' at character ')[0]})")
