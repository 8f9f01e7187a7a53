"""Rows of Parquet and Arrow files, with the columns that mean something here and no other: nothing else is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.core.border import is_of_one_item
from flywheel.core.errors import UserError, first_line
from flywheel.ingest.json_files import Broken
from flywheel.ingest.passed import NoVideosError
from flywheel.ingest.rows import says_no_video
from flywheel.ingest.rows.reading import PATH_NAMES, are_read

#: Rows that are held at a time, and where rows hold videos.
_AT_A_TIME, _OF_VIDEOS_AT_A_TIME = 4096, 4
#: Rows of a Parquet file: one that weighs nothing can stand for any number of them.
_MOST_ROWS = 20_000_000


def parquet_rows(file: Path, also: tuple[str, ...]) -> Iterator[Any]:
    """The rows of a Parquet file; a row group that can't be read is one :class:`Broken`.

    ``also`` names columns that are read besides. Raises UserError where the file is none, names no videos, or
    holds more rows than are taken.
    """
    try:
        source = pq.ParquetFile(file)
    except BaseException as error:
        if not is_of_one_item(error):
            raise
        raise UserError(f"{file}: can't be read as a table ({first_line(error)}).") from error
    with source:
        if (count := source.metadata.num_rows) > _MOST_ROWS:
            raise UserError(f"{file}: holds {count} rows, at most {_MOST_ROWS} are taken. Split it into several.")
        columns = _wanted(file, source.schema_arrow, also)
        at_a_time = _rows_at_a_time(source.schema_arrow, columns)
        for group in range(source.num_row_groups):
            try:
                for batch in source.iter_batches(at_a_time, row_groups=[group], columns=columns):
                    yield from batch.to_pylist()
            except BaseException as error:
                # Damaged files raise anything, SystemError too.
                if not is_of_one_item(error):
                    raise
                yield Broken(f"row group {group} can't be read ({first_line(error)})")


def arrow_rows(file: Path, also: tuple[str, ...]) -> Iterator[Any]:
    """The rows of an Arrow file as ``datasets`` writes them; see :func:`parquet_rows`."""
    try:
        source = pa.memory_map(str(file))
        reader = _opened(source)
        columns = _wanted(file, reader.schema, also)
    except BaseException as error:
        if not is_of_one_item(error):
            raise
        raise UserError(f"{file}: can't be read as a table ({first_line(error)}).") from error
    at_a_time = _rows_at_a_time(reader.schema, columns)
    with source:
        try:
            for batch in _batches(reader):
                batch = batch.select(columns)
                for start in range(0, batch.num_rows, at_a_time):
                    part = batch.slice(start, at_a_time)
                    # What a damaged file says of its parts is followed unseen, out of the process' memory.
                    part.validate(full=True)
                    yield from part.to_pylist()
        except BaseException as error:
            if not is_of_one_item(error):
                raise
            yield Broken(f"can't be read any further ({first_line(error)})")


def _opened(source: Any) -> Any:
    """The reader of a stream, which ``datasets`` writes, or of a file, which others do."""
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


def _wanted(file: Path, schema: Any, also: tuple[str, ...]) -> list[str]:
    """The columns that are read. Raises UserError where none names a video."""
    names = list(dict.fromkeys(schema.names))
    if says_no_video(names):
        raise NoVideosError(
            f"{file}: needs a column with the videos or their paths, one of {', '.join(PATH_NAMES[:8])}; "
            f"has {', '.join(names[:40])}."
        )
    return [name for name in names if name in also or name in are_read(names)]


def _rows_at_a_time(schema: Any, columns: list[str]) -> int:
    """How many rows are held: few where they may hold videos."""
    return _OF_VIDEOS_AT_A_TIME if any(_holds_bytes(schema.field(name).type) for name in columns) else _AT_A_TIME


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return True
    return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
