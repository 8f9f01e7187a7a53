"""All clips by id and by split, in memory that does not grow with them: rows lie in a mapped file, arrays say where."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.types import Clip, Cue
from flywheel.store.arrays import number_of
from flywheel.store.columns import SCHEMAS
from flywheel.store.mapped import MappedRows

if TYPE_CHECKING:
    from flywheel.store.workspace import Workspace

#: Clips that are made of rows at a time, and those looked at last, which are kept.
_CHUNK, _KEPT = 512, 4096
#: Looks at single rows, and passes' chunks, before the pages that they came from are given back.
_LOOKS_PER_RELEASE, _CHUNKS_PER_RELEASE = 1024, 32


class ClipIndex(Mapping[str, Clip]):
    """The clips of a workspace as they are when this is made: 13 bytes of memory a clip."""

    def __init__(self, workspace: Workspace, *, asr: bool = True, without: Collection[str] = ()) -> None:
        """Without ``asr``, clips have no words but those that people or their sources gave.

        ``without`` are contents of videos whose clips are left out.
        """
        empty = pl.DataFrame(schema=pl.Schema(SCHEMAS["clips"]))
        self._mapped = MappedRows(workspace.root / "cache", partial(_frames, workspace, asr, without), empty)
        self._looks = 0
        hashes = self._mapped.hashes("id")
        #: Rows in the order of their ids' hashes, and these.
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]
        self._names = sorted({name for split in self._mapped.chunks("split") for name in split.unique()})
        codes = [
            split.replace_strict(self._names, list(range(len(self._names))), return_dtype=pl.UInt8).to_numpy()
            for split in self._mapped.chunks("split")
        ]
        self._splits = np.concatenate(codes) if codes else np.zeros(0, dtype=np.uint8)
        self.release()
        #: Decoders ask from threads of their own.
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Clip] = OrderedDict()

    def __len__(self) -> int:
        return len(self._mapped)

    def __iter__(self) -> Iterator[str]:
        for ids in self._mapped.chunks("id"):
            yield from ids

    def __contains__(self, clip_id: object) -> bool:
        return isinstance(clip_id, str) and self._row(clip_id) is not None

    def __getitem__(self, clip_id: str) -> Clip:
        row = self._row(clip_id)
        if row is None:
            raise KeyError(clip_id)
        return self.at(row)

    def facts(self, *names: str) -> pl.DataFrame:
        """Some facts of all clips, as a frame."""
        return self._mapped.columns(list(names))

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """A number for each clip's fact of this name, (clips,): equal ones for equal facts, in 8 bytes each."""
        return self._mapped.hashes(name)

    def numbered_videos(self) -> Callable[[Sequence[str]], NDArray[np.int64]]:
        """Gives a number of the video of each of some clips, by their ids, (n,); -1 where there is no such clip.

        It is made from the video's content alone, so it stays the same whatever is added.
        """
        numbers = np.concatenate([np.zeros(0, dtype=np.int64), *map(_numbers, self._mapped.chunks("content_hash"))])
        self.release()

        def of(clip_ids: Sequence[str]) -> NDArray[np.int64]:
            rows = self._rows_of(pl.Series(clip_ids, dtype=pl.String))
            return np.where(rows < 0, -1, numbers[rows])

        return of

    def wordless(self) -> NDArray[np.bool_]:
        """Which clips have no words, (clips,)."""
        parts = [(transcript == "").to_numpy() for transcript in self._mapped.chunks("transcript")]
        self.release()
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)

    def split_sizes(self) -> dict[str, int]:
        """How many clips each split has, by its name."""
        sizes = np.bincount(self._splits, minlength=len(self._names)).tolist()
        return dict(zip(self._names, sizes, strict=True))

    def seconds(self) -> float:
        """The duration of all clips together, in seconds."""
        ends, starts = self._mapped.chunks("end_s"), self._mapped.chunks("start_s")
        return sum(float((end - start).sum()) for end, start in zip(ends, starts, strict=True))

    def release(self) -> None:
        """Give back the memory of clips that were read (:meth:`MappedRows.release`)."""
        self._mapped.release()

    def of(self, *splits: str) -> ClipView:
        """The clips of these splits, in the order in which they were taken in."""
        codes = [self._names.index(split) for split in splits if split in self._names]
        return ClipView(self, np.flatnonzero(np.isin(self._splits, codes)))

    def with_contents(self, hashes: Collection[str]) -> ClipView:
        """The clips of videos with these contents, in the order in which they were taken in."""
        if not hashes:
            return ClipView(self, np.zeros(0, dtype=np.int64))
        wanted = pl.Series(sorted(hashes), dtype=pl.String).implode()
        there = [contents.is_in(wanted).to_numpy() for contents in self._mapped.chunks("content_hash")]
        self.release()
        return ClipView(self, np.flatnonzero(np.concatenate(there)))

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
        clip = _clip(self._mapped.row(row))
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
        return [_clip(values) for values in self._mapped.rows(rows)]

    def columns(self, rows: NDArray[np.int64], *names: str) -> pl.DataFrame:
        """Some facts of the clips of these rows (n,), as a frame."""
        found = self._mapped.columns(list(names), rows)
        self.release()
        return found

    def among(self, rows: NDArray[np.int64], clip_ids: pl.Series) -> NDArray[np.int64]:
        """Those of these rows (n,) whose clips have one of these ids, in their order."""
        wanted = np.zeros(len(self), dtype=np.bool_)
        found = self._rows_of(clip_ids)
        wanted[found[found >= 0]] = True
        return rows[wanted[rows]]

    def has(self, rows: NDArray[np.int64], clip_ids: pl.Series) -> NDArray[np.bool_]:
        """Which of these ids, (m,), are of the clips of these rows (n,)."""
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[rows] = True
        found = self._rows_of(clip_ids)
        return (found >= 0) & wanted[found]

    def by_id(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """These rows (n,), none twice, in the order of their clips' ids."""
        order = self._mapped.order("id")
        wanted = np.zeros(len(order), dtype=np.bool_)
        wanted[rows] = True
        return order[wanted[order]].astype(np.int64)

    def _rows_of(self, clip_ids: pl.Series) -> NDArray[np.int64]:
        """The row of each of these ids, (m,); -1 where there is no such clip."""
        # Of a million clips and a million others two share a hash of 64 bits with a chance of 5 in 100 million.
        if not len(self):
            return np.full(len(clip_ids), -1, dtype=np.int64)
        wanted = clip_ids.hash(0).to_numpy()
        places = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return np.where(self._hashes[places] == wanted, self._order[places], -1).astype(np.int64)

    def _row(self, clip_id: str) -> int | None:
        wanted = np.uint64(pl.Series([clip_id]).hash(0)[0])
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._order) and self._hashes[place] == wanted:
            row = int(self._order[place])
            if self._mapped.value(row, "id") == clip_id:
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
            rows = self._rows[start : start + _CHUNK]
            yield from self._index.rows(rows)
            # Rows from all over the file are on pages of their own.
            if number % _CHUNKS_PER_RELEASE == 0 or np.ptp(rows) > _CHUNKS_PER_RELEASE * _CHUNK:
                self._index.release()

    def columns(self, *names: str) -> pl.DataFrame:
        """Some facts of these clips, in their order, as a frame."""
        return self._index.columns(self._rows, *names)

    def with_ids(self, clip_ids: Iterable[str] | pl.Series) -> ClipView:
        """Those of these clips that have one of these ids, in their order."""
        ids = clip_ids if isinstance(clip_ids, pl.Series) else pl.Series(list(clip_ids), dtype=pl.String)
        return ClipView(self._index, self._index.among(self._rows, ids))

    def has(self, clip_ids: pl.Series) -> NDArray[np.bool_]:
        """Which of these ids are of clips of this view, (n,)."""
        return self._index.has(self._rows, clip_ids)

    def without(self, others: ClipView) -> ClipView:
        """These clips but for the others, which are of the same index; in the order in which they were taken in."""
        return ClipView(self._index, np.setdiff1d(self._rows, others._rows)) if len(others) else self

    def by_id(self) -> ClipView:
        """The same clips in the order of their ids."""
        return ClipView(self._index, self._index.by_id(self._rows))


def _numbers(contents: pl.Series) -> NDArray[np.int64]:
    """A number in [0, 2^63) for each content, (n,); hashed once where equal ones stand together."""
    numbers = np.array([number_of(content) for content in contents.rle().struct.field("value")], dtype=np.int64)
    of_clips: NDArray[np.int64] = numbers[contents.rle_id().to_numpy()]
    return of_clips


def _frames(workspace: Workspace, asr: bool, without: Collection[str]) -> Iterator[pl.DataFrame]:
    gone = pl.Series(sorted(without), dtype=pl.String).implode()
    for frame in workspace.clip_batches(asr=asr):
        kept = frame.filter(~pl.col("content_hash").is_in(gone)) if without else frame
        if kept.height:
            yield kept


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{**row, "cues": tuple(Cue(**cue) for cue in row["cues"] or ())})
