"""All clips by id and by split, in memory that does not grow with them: rows lie in a mapped file, arrays say where."""

from __future__ import annotations

import mmap
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from flywheel.core.types import Clip, Cue

if TYPE_CHECKING:
    from flywheel.store.workspace import Workspace

#: Clips that are made of rows at a time, and those looked at last, which are kept.
_CHUNK, _KEPT = 512, 4096
#: Looks at single rows, and passes' chunks, before the pages that they came from are given back.
_LOOKS_PER_RELEASE, _CHUNKS_PER_RELEASE = 1024, 32


class ClipIndex(Mapping[str, Clip]):
    """The clips of a workspace as they are when this is made: 25 bytes of memory a clip."""

    def __init__(self, workspace: Workspace) -> None:
        self._table, self._pages = _mapped(workspace)
        # Rows are taken from batch after batch: taken from the table, each few would go through all of it.
        self._batches = self._table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)
        self._looks = 0
        self._hashes = self.hashes("id")
        self._order = np.argsort(self._hashes, kind="stable")
        splits = [pl.Series(chunk) for chunk in self._table["split"].chunks]
        self._names = sorted({name for split in splits for name in split.unique()})
        codes = [
            split.replace_strict(self._names, list(range(len(self._names))), return_dtype=pl.UInt8).to_numpy()
            for split in splits
        ]
        self._splits = np.concatenate(codes) if codes else np.zeros(0, dtype=np.uint8)
        self.release()
        #: Decoders ask from threads of their own.
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Clip] = OrderedDict()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[str]:
        for chunk in self._table["id"].chunks:
            yield from pl.Series(chunk)

    def __contains__(self, clip_id: object) -> bool:
        return isinstance(clip_id, str) and self._row(clip_id) is not None

    def __getitem__(self, clip_id: str) -> Clip:
        row = self._row(clip_id)
        if row is None:
            raise KeyError(clip_id)
        return self.at(row)

    def facts(self, *names: str) -> pl.DataFrame:
        """Some facts of all clips, as a frame."""
        found = pl.from_arrow(self._table.select(list(names)))
        assert isinstance(found, pl.DataFrame)
        return found

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """A number for each clip's fact of this name, (clips,): equal ones for equal facts, in 8 bytes each."""
        parts = [pl.Series(chunk).hash(0).to_numpy() for chunk in self._table[name].chunks]
        self.release()
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)

    def release(self) -> None:
        """Give back the pages of the file that were read, which would count as memory until others ask for it."""
        if self._pages is not None and hasattr(self._pages, "madvise"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def of(self, *splits: str) -> ClipView:
        """The clips of these splits, in the order in which they were taken in."""
        codes = [self._names.index(split) for split in splits if split in self._names]
        return ClipView(self, np.flatnonzero(np.isin(self._splits, codes)))

    def in_order(self, clip_ids: Iterable[str]) -> list[str]:
        """Those of these ids that there are, in the order in which the clips were taken in."""
        rows = {clip_id: self._row(clip_id) for clip_id in clip_ids}
        return sorted((c for c, row in rows.items() if row is not None), key=lambda clip_id: rows[clip_id] or 0)

    def at(self, row: int) -> Clip:
        """The clip of this row."""
        with self._lock:
            if row in self._recent:
                self._recent.move_to_end(row)
                return self._recent[row]
        batch, place = self._place(row)
        clip = _clip(batch.slice(place, 1).to_pylist()[0])
        with self._lock:
            self._looks += 1
            if self._looks % _LOOKS_PER_RELEASE == 0:
                self.release()
            self._recent[row] = clip
            if len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        return clip

    def rows(self, rows: NDArray[np.int64]) -> list[Clip]:
        """The clips of these rows (n,)."""
        return [_clip(values) for values in self._taken(rows).to_pylist()]

    def columns(self, rows: NDArray[np.int64], *names: str) -> pl.DataFrame:
        """Some facts of the clips of these rows (n,), as a frame."""
        found = pl.from_arrow(self._taken(rows, list(names)))
        self.release()
        assert isinstance(found, pl.DataFrame)
        return found

    def _taken(self, rows: NDArray[np.int64], names: list[str] | None = None) -> pa.Table:
        """These rows (n,) in their order; neighbours that lie in one batch are taken together."""
        table = self._table if names is None else self._table.select(names)
        batches = np.searchsorted(self._ends, rows, side="right")
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(batches)) + 1) if len(rows) else []
        some = []
        for run in runs:
            number = int(batches[run[0]])
            batch = self._batches[number] if names is None else self._batches[number].select(names)
            some.append(batch.take(pa.array(rows[run] - (self._ends[number] - batch.num_rows))))
        return pa.Table.from_batches(some, table.schema)

    def _place(self, row: int) -> tuple[Any, int]:
        """The batch that holds a row, and where in it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        batch = self._batches[number]
        return batch, row - int(self._ends[number]) + batch.num_rows

    def _row(self, clip_id: str) -> int | None:
        wanted = np.uint64(pl.Series([clip_id]).hash(0)[0])
        place = int(np.searchsorted(self._hashes, wanted, sorter=self._order))
        while place < len(self._order) and self._hashes[self._order[place]] == wanted:
            row = int(self._order[place])
            batch, at = self._place(row)
            if batch["id"][at].as_py() == clip_id:
                return row
            place += 1
        return None


class ClipView(Sequence[Clip]):
    """Some clips of an index, made into objects as they are asked for."""

    def __init__(self, index: ClipIndex, rows: NDArray[np.int64]) -> None:
        self._index, self._rows = index, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Clip: ...

    @overload
    def __getitem__(self, place: slice) -> ClipView: ...

    def __getitem__(self, place: int | slice) -> Clip | ClipView:
        if isinstance(place, slice):
            return ClipView(self._index, self._rows[place])
        return self._index.at(int(self._rows[place]))

    def __iter__(self) -> Iterator[Clip]:
        for number, start in enumerate(range(0, len(self._rows), _CHUNK), 1):
            yield from self._index.rows(self._rows[start : start + _CHUNK])
            if number % _CHUNKS_PER_RELEASE == 0:
                self._index.release()

    def columns(self, *names: str) -> pl.DataFrame:
        """Some facts of these clips, in their order, as a frame."""
        return self._index.columns(self._rows, *names)

    def with_ids(self, clip_ids: Iterable[str] | pl.Series) -> ClipView:
        """Those of these clips that have one of these ids, in their order."""
        ids = clip_ids if isinstance(clip_ids, pl.Series) else pl.Series(list(clip_ids), dtype=pl.String)
        wanted = self.columns("id")["id"].is_in(ids.implode())
        return ClipView(self._index, self._rows[wanted.to_numpy()])

    def by_id(self) -> ClipView:
        """The same clips in the order of their ids."""
        return ClipView(self._index, self._rows[self.columns("id")["id"].arg_sort().to_numpy()])


def _mapped(workspace: Workspace) -> tuple[Any, mmap.mmap | None]:
    """The rows of all clips, in a file that is mapped into memory and has no name any more; and the map."""
    try:
        return _mapped_in(workspace.root / "cache", workspace)
    except OSError:
        # What can only be read, and a full disk, can still be looked at.
        return _mapped_in(Path(tempfile.gettempdir()), workspace)


def _mapped_in(folder: Path, workspace: Workspace) -> tuple[Any, mmap.mmap | None]:
    folder.mkdir(exist_ok=True)
    file = folder / f"clips-{uuid.uuid4().hex}.arrow"
    writer: Any = None
    try:
        with pa.OSFile(str(file), "wb") as out:
            for frame in workspace.clip_batches():
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    writer = pa.ipc.new_file(out, table.schema)
                writer.write_table(table)
            if writer is None:
                return workspace.clips().to_arrow(compat_level=pl.CompatLevel.oldest()), None
            writer.close()
        with file.open("rb") as opened:
            pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.py_buffer(pages)).read_all(), pages
    finally:
        file.unlink(missing_ok=True)


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{**row, "cues": tuple(Cue(**cue) for cue in row["cues"] or ())})
