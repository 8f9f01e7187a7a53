"""The mapped files of an index of vectors: they grow as records come, and a state says what of them counts.

A clip has a row, the same in all files, for as long as the files live. What is written beyond a state is not looked at,
and a state appears whole or not at all: killed at any time, the records are applied again from the state before.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import BorderError
from flywheel.core.files import written_whole
from flywheel.store.moments import Moments
from flywheel.store.reading import BATCH_ROWS
from flywheel.store.shards import Shard, groups
from flywheel.store.view import View

STATE = "state.npz"
#: There while vectors are overwritten; found later, what was killed did not say which of them.
OVERWRITING = "overwriting"
#: What reading files raises that are not there, or not whole.
NOT_WHOLE = (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
_COLUMNS = ["clip_id", "modality", "vector"]
#: Rows whose keys are compared at a time.
_BLOCK = 65_536


@dataclass(frozen=True, kw_only=True)
class FilesState:
    """What of the files counts: a clip a row.

    ``has`` says which clips have a modality, ``changes`` how often what they have of it was another (both (N,)).
    ``commits`` are the shards whose rows are in the files: first and last commit, rows, name.
    """

    width: int
    id_bytes: int
    rows: int = 0
    commits: tuple[tuple[int, int, int, str], ...] = ()
    has: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    changes: Mapping[str, NDArray[np.uint16]] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> FilesState:
        """The state of these files. Raises one of :data:`NOT_WHOLE` where there is none that is whole."""
        with np.load(folder / STATE, allow_pickle=False) as kept:
            facts = json.loads(bytes(kept["facts"]))
            names = facts["modalities"]
            return cls(
                width=facts["width"],
                id_bytes=facts["id_bytes"],
                rows=facts["rows"],
                commits=tuple((int(first), int(last), int(rows), name) for first, last, rows, name in facts["commits"]),
                has={name: kept[f"has-{name}"] for name in names},
                changes={name: kept[f"changes-{name}"] for name in names},
                moments={
                    name: Moments(facts["counts"][name], kept[f"sums-{name}"], kept[f"products-{name}"])
                    for name in names
                },
            )

    def write(self, folder: Path) -> None:
        """Put this state in the place of the one before. Raises OSError where it can't be written."""
        names = sorted(self.has)
        facts = {
            "width": self.width,
            "id_bytes": self.id_bytes,
            "rows": self.rows,
            "commits": self.commits,
            "modalities": names,
            "counts": {name: self.moments[name].count for name in names},
        }
        arrays: dict[str, NDArray[np.generic]] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
        for name in names:
            arrays |= {f"has-{name}": self.has[name], f"changes-{name}": self.changes[name]}
            arrays |= {f"sums-{name}": self.moments[name].sums, f"products-{name}": self.moments[name].products}
        with written_whole(folder / STATE) as place, open(place, "wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
            out.flush()
            os.fsync(out.fileno())

    def unread(self, shards: Sequence[Shard]) -> list[Shard] | None:
        """Those of the shards that hold rows which are not in the files; None where rows went, and the files must too.

        Shards that were merged hold what those held that they are of.
        """
        fresh, place = [], 0
        for shard in shards:
            inside = []
            while place < len(self.commits) and self.commits[place][1] <= shard.position:
                inside.append(self.commits[place])
                place += 1
            rows = sum(count for _, _, count, _ in inside)
            same = len(inside) == 1 and inside[0][:2] == (shard.first, shard.position)
            written_anew = same and inside[0][3] != shard.name
            if written_anew or rows > shard.num_rows or any(first < shard.first for first, *_ in inside):
                return None
            if rows < shard.num_rows:
                fresh.append(shard)
        return fresh if place == len(self.commits) else None


def array(folder: Path, name: str, shape: tuple[int, ...], dtype: str, mode: str = "r") -> NDArray[Any]:
    """One of the files, mapped. Raises ValueError where it is shorter."""
    if 0 in shape:
        # Nothing can't be mapped.
        return np.zeros(shape, dtype)
    mapped: NDArray[Any] = np.memmap(folder / name, dtype, mode, shape=shape)  # type: ignore[call-overload]
    return mapped


def grow(view: View, model: str, folder: Path, state: FilesState, shards: Sequence[Shard]) -> FilesState | None:
    """Put the model's rows of these shards into the files, which others may be reading; returns the state after.

    Two passes: which clips there are, then their vectors, each put where its clip is. None where the files can't hold
    an id as long. Raises OSError where they can't be written, BorderError for vectors that are none of this width.
    """
    hashes, longest, modalities = [np.zeros(0, np.uint64)], 1, set(state.has)
    for frame in _batches(view, model, shards, ["clip_id", "modality"]):
        hashes.append(frame["clip_id"].hash(0).unique().to_numpy())
        longest = max(longest, *frame["clip_id"].str.len_bytes().to_list())
        modalities |= set(frame["modality"].unique())
    if state.rows and longest > state.id_bytes:
        return None
    state = replace(state, id_bytes=state.id_bytes if state.rows else longest)
    clips = np.unique(np.concatenate(hashes))
    places = _places(folder, state, clips)
    total = max(state.rows, int(places.max(initial=-1)) + 1)
    growing = _Growing(folder, state, total, sorted(modalities))
    growing.keys[places] = clips
    for frame in _batches(view, model, shards, _COLUMNS):
        growing.apply(frame, places[np.searchsorted(clips, frame["clip_id"].hash(0).to_numpy())], view, model)
    return growing.state()


def _places(folder: Path, state: FilesState, clips: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The row of each of these clips (sorted keys); those that have none get the rows behind the last."""
    places, keys = np.full(len(clips), -1), array(folder, "keys", (state.rows,), "<u8")
    for start in range(0, state.rows if len(clips) else 0, _BLOCK):
        part = np.asarray(keys[start : start + _BLOCK])
        at = np.minimum(np.searchsorted(clips, part), len(clips) - 1)
        known = np.flatnonzero(clips[at] == part)
        places[at[known]] = start + known
    new = places < 0
    places[new] = state.rows + np.arange(int(new.sum()))
    return places


class _Growing:
    """Files that are being written, and what will be their state."""

    def __init__(self, folder: Path, state: FilesState, rows: int, modalities: Sequence[str]) -> None:
        self._folder, self._before, self._rows, self._width = folder, state, rows, state.width
        self.keys = _writable(folder, "keys", (rows,), "<u8")
        self._ids = _writable(folder, "ids", (rows,), f"S{state.id_bytes}")
        self._vectors = {name: _writable(folder, name, (rows, state.width), "<f2") for name in modalities}
        self._has = {name: np.zeros(rows, np.bool_) for name in modalities}
        self._changes = {name: np.zeros(rows, np.uint16) for name in modalities}
        for name in state.has:
            self._has[name][: state.rows] = state.has[name]
            self._changes[name][: state.rows] = state.changes[name]
        self._moments = {name: state.moments.get(name) or Moments.none(state.width) for name in modalities}

    def apply(self, frame: pl.DataFrame, places: NDArray[np.int64], view: View, model: str) -> None:
        """Put the frame's vectors to their clips' rows; of several of a clip the last counts, an empty one is none."""
        self._ids[places] = np.array(frame["clip_id"].to_list(), dtype=self._ids.dtype)
        for (name,), some in frame.with_columns(place=places).group_by("modality", maintain_order=True):
            last = some.unique("place", keep="last", maintain_order=True)
            rows, there = last["place"].to_numpy(), (last["vector"].bin.size() > 0).to_numpy()
            matrix = np.zeros((len(rows), self._width), np.float16)
            matrix[there] = _matrix(last["vector"].filter(there), self._width, view, model)
            self._put(str(name), rows, matrix, there)

    def _put(self, name: str, rows: NDArray[np.int64], matrix: NDArray[np.float16], there: NDArray[np.bool_]) -> None:
        had, before = self._has[name][rows], self._vectors[name][rows]
        # Also a shard that was merged, whose rows were here before, changes nothing.
        other = (had != there) | (had & there & (before != matrix).any(axis=1))
        rows, matrix, there, had, before = (values[other] for values in (rows, matrix, there, had, before))
        if had.any():
            (self._folder / OVERWRITING).touch()
        self._moments[name] = self._moments[name].without(before[had]).plus(matrix[there])
        self._vectors[name][rows] = matrix
        self._has[name][rows] = there
        self._changes[name][rows] += 1

    def state(self) -> FilesState:
        """The state after, once all is on disk; it is of the same shards yet."""
        for values in (self.keys, self._ids, *self._vectors.values()):
            if isinstance(values, np.memmap):
                values.flush()
        return replace(self._before, rows=self._rows, has=self._has, changes=self._changes, moments=self._moments)


def _writable(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A file to write to, at least as long. Raises OSError where there is no room."""
    with open(folder / name, "ab") as opened:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size and hasattr(os, "posix_fallocate"):
            # A disk that is full says so here: while a mapped page is written, it would end the process.
            os.posix_fallocate(opened.fileno(), 0, size)
        elif os.fstat(opened.fileno()).st_size < size:
            os.ftruncate(opened.fileno(), size)
    return array(folder, name, shape, dtype, "r+")


def _batches(view: View, model: str, shards: Sequence[Shard], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The model's rows of these shards; no frame is empty."""
    for group in groups(shards, BATCH_ROWS):
        frame = view.records.of_shards("vectors", group, columns, pl.col("model") == model)
        if frame.height:
            yield frame


def _matrix(vectors: pl.Series, width: int, view: View, model: str) -> NDArray[np.float16]:
    """The vectors (n, D). Raises BorderError where one has another width, or is no numbers."""
    joined = b"".join(vectors.to_list())
    matrix = np.frombuffer(joined, "<f2")
    if len(joined) != len(vectors) * width * 2 or not np.isfinite(matrix).all():
        raise BorderError(
            f"{view.root / 'vectors'}: vectors of encoder {model} have another width than {width}, or no numbers. "
            "Run 'flywheel index --retrain'."
        )
    return matrix.reshape(-1, width)
