"""Clips' vectors as matrices in mapped files: what a search multiplies, made of the records and made again at will.

Records are what counts; the files lie in the cache, grow as records come, and are made anew where records went.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import BorderError
from flywheel.core.files import written_whole
from flywheel.core.types import content_id
from flywheel.store.shards import Shard, ShardGone
from flywheel.store.vector_files import NOT_WHOLE, OVERWRITING, STATE, FilesState, array, grow
from flywheel.store.vector_folder import folder_of, forget_files
from flywheel.store.vector_graphs import Graph, open_graph, update_graph
from flywheel.store.view import View

__all__ = ["LastVectors", "VectorIndex", "folder_of", "forget_files", "vector_id", "vector_row"]
#: Changes with what the files hold.
_FORMAT = 3
#: So long a folder that was begun is taken for one that is being made, in seconds.
_HALF_S = 3600.0
#: Clips that are multiplied at a time.
_BLOCK = 32_768


def vector_row(
    model: str, modality: str, clip_id: str, vector: NDArray[np.float32], of: str = "", number: int = 0
) -> dict[str, object]:
    """The record of a clip's vector, (D,) in half precision.

    Where what it is of can change, ``of`` tells it, and ``number`` how many vectors the clip had before: a text that
    comes back is the last again. A vector (0,) says that it is gone.
    """
    return {
        "id": vector_id(model, modality, clip_id, of, number),
        "clip_id": clip_id,
        "model": model,
        "modality": modality,
        "of": of,
        "vector": np.ascontiguousarray(vector, dtype="<f2").tobytes(),
    }


def vector_id(model: str, modality: str, clip_id: str, of: str = "", number: int = 0) -> str:
    """The id of that record."""
    return content_id("vector", model, modality, clip_id, of, number)


class LastVectors:
    """What the last vector of each clip is of, for a modality whose clips can have others: 24 bytes a record."""

    def __init__(self, view: View, model: str, modality: str) -> None:
        clips, of = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for frame in view.records.batches(
            "vectors",
            columns=["clip_id", "of"],
            where=(pl.col("model") == model) & (pl.col("modality") == modality),
        ):
            clips.append(frame["clip_id"].hash(0).to_numpy())
            of.append(frame["of"].hash(0).to_numpy())
        hashes = np.concatenate(clips)
        order = np.argsort(hashes, kind="stable")
        self._clips, self._of = hashes[order], np.concatenate(of)[order]

    def numbers(self, clip_ids: Sequence[str], of: Sequence[str]) -> list[int | None]:
        """Of each clip how many vectors it has; None where the last is of this already."""
        wanted = pl.Series(clip_ids, dtype=pl.String).hash(0).to_numpy()
        first = np.searchsorted(self._clips, wanted, side="left")
        end = np.searchsorted(self._clips, wanted, side="right")
        now = pl.Series(of, dtype=pl.String).hash(0).to_numpy()
        return [
            None if last > begin and self._of[last - 1] == this else int(last - begin)
            for begin, last, this in zip(first, end, now, strict=True)
        ]


class VectorIndex:
    """The vectors of one model: of each modality a matrix over the same clips, and which of them have any.

    What it holds in memory is 3 bytes a clip and modality; the rest is mapped.
    """

    def __init__(self, folder: Path, state: FilesState) -> None:
        """Raises one of :data:`NOT_WHOLE` where the files are not there, or shorter than the state says."""
        self.folder, self.state = folder, state
        self.width, self.has = state.width, state.has
        self.modalities: tuple[str, ...] = tuple(sorted(state.has))
        self._ids = array(folder, "ids", (state.rows,), f"S{state.id_bytes}")
        self._keys = array(folder, "keys", (state.rows,), "<u8")
        self._vectors = {name: array(folder, name, (state.rows, state.width), "<f2") for name in self.modalities}
        self._graphs: dict[str, Graph | None] = {}

    @classmethod
    def open(cls, view: View, model: str, width: int) -> VectorIndex:
        """The index of a model's vectors as they are on record now; its files are made, or grow, where they are behind.

        Raises BorderError where the records hold vectors of another width, and where the files can be made nowhere.
        """
        try:
            return _opened(view, model, width, view.records.shards("vectors"))
        except ShardGone:
            # A takedown wrote one anew since they were listed.
            return _opened(view, model, width, view.records.shards("vectors"))

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, places: NDArray[np.int64]) -> list[str]:
        """Ids of the clips at these places."""
        return [bytes(value).decode() for value in self._ids[places]]

    def places(self, clip_ids: pl.Series) -> NDArray[np.int64]:
        """Places (n,) of these clips; -1 for those that are not here."""
        return self.places_by_key(clip_ids.hash(0).to_numpy())

    def places_by_key(self, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The same by the ids' polars hashes with seed 0 (n,)."""
        at = np.searchsorted(self._sorted_keys, wanted)
        at = np.minimum(at, max(0, len(self) - 1))
        found = self._sorted_keys[at] == wanted if len(self) else np.zeros(len(wanted), np.bool_)
        return np.where(found, self._order[at] if len(self) else -1, -1)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self._keys)

    @cached_property
    def _sorted_keys(self) -> NDArray[np.uint64]:
        return np.asarray(self._keys[self._order])

    def among(self, clip_ids: pl.Series) -> NDArray[np.bool_]:
        """Which clips (N,) are among these."""
        found = np.zeros(len(self), np.bool_)
        wanted = np.sort(np.array(clip_ids.to_list(), dtype=self._ids.dtype))
        for start in range(0, len(self) if len(wanted) else 0, _BLOCK):
            part = np.asarray(self._ids[start : start + _BLOCK])
            places = np.minimum(np.searchsorted(wanted, part), len(wanted) - 1)
            found[start : start + _BLOCK] = wanted[places] == part
        return found

    def similarities(
        self, modality: str, vector: NDArray[np.float32], places: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Products of the vectors of a modality with this one (D,), of all clips or of those at these places.

        They are 0 for clips without.
        """
        matrix = self._vectors[modality]
        out = np.empty(len(self) if places is None else len(places), np.float32)
        for start in range(0, len(out), _BLOCK):
            part = slice(start, start + _BLOCK)
            out[part] = matrix[part if places is None else places[part]].astype(np.float32) @ vector
        return out

    def spread(self, modality: str, vector: NDArray[np.float32]) -> tuple[float, float]:
        """Mean and standard deviation of the similarities of all clips that have the modality."""
        return self.state.moments[modality].spread(vector)

    def spreads(self, modality: str, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same for each of these vectors (n, D)."""
        return self.state.moments[modality].spreads(vectors)

    def vectors(self, modality: str, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors (n, D) at these places; zeros for clips without."""
        rows: NDArray[np.float16] = self._vectors[modality][places]
        return rows

    def has_graph(self, modality: str) -> bool:
        """Whether :meth:`nearest` can tell of this modality."""
        return self._graph(modality) is not None

    def nearest(self, modality: str, vector: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Places of at least ``count`` clips, if so many have any, which hold nearly all of the most similar.

        Clips that came or changed since the graph was made are looked at one by one. Raises KeyError without a graph.
        """
        graph = self._graph(modality)
        if graph is None:
            raise KeyError(modality)
        found = graph.nearest(vector, count)
        rest = graph.rest
        if len(rest) > count:
            rest = rest[np.argpartition(-self.similarities(modality, vector, rest), count)[:count]]
        return np.concatenate([found[self.has[modality][found]], rest])

    def update_graphs(self, above: int, threads: int) -> dict[str, int]:
        """Bring the graphs of modalities that more than ``above`` clips have up to date; returns how many got in.

        Only one process may do so at a time. Raises OSError where a graph can't be written.
        """
        self._graphs.clear()
        return {
            name: update_graph(self.folder, name, self.state, self._vectors[name], threads)
            for name in self.modalities
            if self.state.moments[name].count > above
        }

    def _graph(self, modality: str) -> Graph | None:
        if modality not in self._graphs:
            self._graphs[modality] = open_graph(self.folder, modality, self.state)
        return self._graphs[modality]


def _opened(view: View, model: str, width: int, shards: Sequence[Shard]) -> VectorIndex:
    """The index of the vectors in these shards."""
    # The rows are found by hashes, which another version may make otherwise.
    key = content_id("vector-index", _FORMAT, model, width, pl.__version__)
    try:
        for folder in sorted(folder_of(view.root).glob(f"{key}-*")):
            # Damaged, or removed meanwhile by a search that made others: made anew.
            with contextlib.suppress(*NOT_WHOLE):
                if (found := _grown(view, model, folder, shards)) is not None:
                    _remove_others(folder, key)
                    return found
        folder = folder_of(view.root) / f"{key}-{uuid.uuid4().hex[:8]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        found = _made(view, model, width, shards, folder)
    except OSError:
        # What can only be read can still be searched: mapped files are there until nobody maps them.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            return _made_elsewhere(view, model, width, shards, Path(place) / key)
    _remove_others(folder, key)
    return found


def _grown(view: View, model: str, folder: Path, shards: Sequence[Shard]) -> VectorIndex | None:
    """The index in this folder with the rows that came since; None where it must be made anew."""
    with _held(folder):
        if (folder / OVERWRITING).exists():
            return None
        state = FilesState.read(folder)
        fresh = state.unread(shards)
        if fresh is None:
            return None
        # Before it grows: what is damaged is not gone on with.
        index = VectorIndex(folder, state)
        if fresh or state.commits != _commits(shards):
            grown = grow(view, model, folder, state, fresh)
            if grown is None:
                return None
            state = replace(grown, commits=_commits(shards))
            state.write(folder)
            (folder / OVERWRITING).unlink(missing_ok=True)
            index = VectorIndex(folder, state)
    with contextlib.suppress(OSError):
        # In use: see _remove_others.
        os.utime(folder)
    return index


def _made(view: View, model: str, width: int, shards: Sequence[Shard], folder: Path) -> VectorIndex:
    """Write the files. Raises OSError where they can't be written."""
    with written_whole(folder) as place:
        place.mkdir()
        state = grow(view, model, place, FilesState(width=width, id_bytes=1), shards)
        assert state is not None
    # Last: its files take their places one by one, and killed between it must not pass for whole.
    state = replace(state, commits=_commits(shards))
    state.write(folder)
    return VectorIndex(folder, state)


def _made_elsewhere(view: View, model: str, width: int, shards: Sequence[Shard], folder: Path) -> VectorIndex:
    """An index whose files lie outside the workspace.

    Raises BorderError with code "files" where they can't be written there either.
    """
    try:
        return _made(view, model, width, shards, folder)
    except OSError as error:
        raise BorderError(
            f"{folder_of(view.root)}, {folder.parent}: can't be written ({error.strerror}). Free space: both are safe "
            "to delete.",
            code="files",
        ) from error


def _commits(shards: Sequence[Shard]) -> tuple[tuple[int, int, int, str], ...]:
    return tuple((shard.first, shard.position, shard.num_rows, shard.name) for shard in shards)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder, so that its files grow once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_others(folder: Path, key: str) -> None:
    """Remove files that nobody needs, each as large as the corpus.

    Those of one other model stay: while a new encoder's vectors are made, the one before is searched. So do files that
    another search may be making.
    """
    others = []
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            at = other.stat().st_mtime
            if other.name.startswith("."):
                old = abs(time.time() - at) >= _HALF_S
            else:
                old = other.name.startswith(key) or not (other / STATE).exists()
                others += [] if old or other.name == folder.name else [(at, other)]
            if old and other.name != folder.name:
                shutil.rmtree(other, ignore_errors=True)
    for _, other in sorted(others)[:-1]:
        shutil.rmtree(other, ignore_errors=True)
