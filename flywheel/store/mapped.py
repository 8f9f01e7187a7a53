"""Rows in a mapped file: any of them can be read at any time, and a few bytes of each are in memory."""

from __future__ import annotations

import mmap
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from flywheel.store.arrays import heads, string_order

#: Rows that are read between two returns of the file's pages: in another order than the file's, and in any.
_TAKEN, _TOGETHER = 1024, 16_384


class MappedRows:
    """Rows of frames in an Arrow file without a name, in their order.

    Its pages count as memory from when they are read until :meth:`release`.
    """

    def __init__(self, folder: Path, frames: Callable[[], Iterable[pl.DataFrame]], empty: pl.DataFrame) -> None:
        """Write the frames' rows to ``folder``, which is made; ``empty`` has their columns, for when there are none."""
        self._table, self._pages = _mapped(folder, frames, empty)
        # Rows are taken from batch after batch: taken from the table, each few would go through all of it.
        self._batches = self._table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def row(self, row: int) -> dict[str, Any]:
        """One row."""
        batch, place = self._place(row)
        values: dict[str, Any] = batch.slice(place, 1).to_pylist()[0]
        return values

    def value(self, row: int, name: str) -> Any:
        """One value of a row."""
        batch, place = self._place(row)
        return batch[name][place].as_py()

    def rows(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """These rows (n,), in the order asked for."""
        taken: list[dict[str, Any]] = self._taken(rows, self._table.column_names).to_pylist()
        return taken

    def columns(self, names: list[str], rows: NDArray[np.int64] | None = None) -> pl.DataFrame:
        """Some columns of these rows (n,), or of all, as a frame."""
        if rows is None:
            return _frame(self._table.select(names))
        parts = [_frame(self._taken(rows[:_TOGETHER], names))]
        for start in range(_TOGETHER, len(rows), _TOGETHER):
            self.release()
            parts.append(_frame(self._taken(rows[start : start + _TOGETHER], names)))
        return pl.concat(parts)

    def chunks(self, name: str) -> Iterator[pl.Series]:
        """One column, some thousand rows at a time, whose pages are given back before the next."""
        for batch in self._batches:
            yield pl.Series(batch[name])
            self.release()

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """A number for each row's value, (rows,): equal ones for equal values, in 8 bytes each."""
        parts = [chunk.hash(0).to_numpy() for chunk in self.chunks(name)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)

    def order(self, name: str) -> NDArray[np.int32]:
        """The rows in the order of a column of strings, (rows,), equal ones as they stand; 4 bytes a row."""
        parts = [heads(chunk) for chunk in self.chunks(name)]

        def whole(rows: NDArray[np.int32]) -> NDArray[np.bytes_]:
            return np.array([value.encode() for value in self.columns([name], rows.astype(np.int64))[name]])

        order = string_order(np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64), whole)
        self.release()
        return order

    def scattered(self, rows: NDArray[Any]) -> pl.DataFrame:
        """These rows (n,) from all over the file, as a frame in the order asked for; its pages are given back."""
        # In the order of the file, some at a time: all at once would have all of its pages in memory.
        by_row = np.argsort(rows, kind="stable")
        parts = []
        for start in range(0, len(rows), _TAKEN):
            taken = rows[by_row[start : start + _TAKEN]].astype(np.int64)
            parts.append(self.columns(self._table.column_names, taken))
            self.release()
        if not parts:
            return self.columns(self._table.column_names, np.zeros(0, dtype=np.int64))
        places = np.empty(len(rows), dtype=np.int64)
        places[by_row] = np.arange(len(rows))
        return pl.concat(parts)[places]

    def release(self) -> None:
        """Give back the pages of the file that were read, which would count as memory until others ask for it."""
        if self._pages is not None and hasattr(self._pages, "madvise"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def _taken(self, rows: NDArray[np.int64], names: list[str]) -> pa.Table:
        """These rows; neighbours that lie in one batch are taken together."""
        numbers = np.searchsorted(self._ends, rows, side="right")
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(numbers)) + 1) if len(rows) else []
        some = []
        for run in runs:
            batch = self._batches[int(numbers[run[0]])]
            start = int(self._ends[numbers[run[0]]]) - batch.num_rows
            some.append(batch.select(names).take(_array(rows[run] - start)))
        return pa.Table.from_batches(some, self._table.select(names).schema)

    def _place(self, row: int) -> tuple[Any, int]:
        """The batch that holds a row, and where in it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        batch = self._batches[number]
        return batch, row - int(self._ends[number]) + batch.num_rows


def _frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def _array(numbers: NDArray[np.int64]) -> pa.Array:
    """The numbers as Arrow has them. ``pa.array`` would import pandas to look whether they are its own: .4 s."""
    numbers = np.ascontiguousarray(numbers, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def _mapped(
    folder: Path, frames: Callable[[], Iterable[pl.DataFrame]], empty: pl.DataFrame
) -> tuple[Any, mmap.mmap | None]:
    """The table and its map, whose file has no name any more."""
    try:
        folder.mkdir(exist_ok=True)
        return _mapped_in(folder, frames(), empty)
    except OSError:
        # What can only be read, and a full disk, can still be looked at.
        return _mapped_in(Path(tempfile.gettempdir()), frames(), empty)


def _mapped_in(folder: Path, frames: Iterable[pl.DataFrame], empty: pl.DataFrame) -> tuple[Any, mmap.mmap | None]:
    file = folder / f"rows-{uuid.uuid4().hex}.arrow"
    writer: Any = None
    try:
        with pa.OSFile(str(file), "wb") as out:
            for frame in frames:
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    writer = pa.ipc.new_file(out, table.schema)
                writer.write_table(table)
            if writer is None:
                return empty.to_arrow(compat_level=pl.CompatLevel.oldest()), None
            writer.close()
        with file.open("rb") as opened:
            pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.py_buffer(pages)).read_all(), pages
    finally:
        file.unlink(missing_ok=True)
