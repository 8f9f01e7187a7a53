"""Clips' vectors as matrices in mapped files: what a search multiplies, made of the records and made again at will.

Records are what counts; the files lie in the cache and are of the records of one moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import BorderError
from flywheel.core.files import written_whole
from flywheel.core.types import content_id
from flywheel.store.reading import BATCH_ROWS
from flywheel.store.shards import Shard, ShardGone, groups
from flywheel.store.view import View

#: Changes with what the files hold.
_FORMAT = 2
_FACTS = "facts.json"
#: So long a folder that was begun is taken for one that is being made, in seconds.
_HALF_S = 3600.0
#: Clips that are multiplied at a time.
_BLOCK = 32_768
_COLUMNS = ["clip_id", "modality", "vector"]


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

    What it holds in memory is a byte a clip and modality; the rest is mapped.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError, ValueError, KeyError or EOFError where the files are not there, or not whole."""
        facts = json.loads((folder / _FACTS).read_text())
        self.width: int = facts["width"]
        self.modalities: tuple[str, ...] = tuple(facts["modalities"])
        self._ids = np.load(folder / "ids.npy", mmap_mode="r")
        self._vectors = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.modalities}
        self.has: Mapping[str, NDArray[np.bool_]] = {
            name: np.load(folder / f"has-{name}.npy") for name in self.modalities
        }
        shapes = {array.shape for array in self._vectors.values()} | {(len(self._ids), self.width)}
        if len(shapes) > 1 or any(array.shape != self._ids.shape for array in self.has.values()):
            raise ValueError(f"{folder}: its files are not of each other")

    @classmethod
    def open(cls, view: View, model: str, width: int) -> VectorIndex:
        """The index of a model's vectors as they are on record now; its files are made where they are not there.

        Raises BorderError where the records hold vectors of another width, and where the files can be made nowhere.
        """
        shards = view.records.shards("vectors")
        try:
            return cls._of(view, model, width, shards)
        except ShardGone:
            # A takedown wrote one anew since they were listed.
            return cls._of(view, model, width, view.records.shards("vectors"))

    @classmethod
    def _of(cls, view: View, model: str, width: int, shards: Sequence[Shard]) -> VectorIndex:
        """The index of the vectors in these shards."""
        key = content_id("vector-index", _FORMAT, model, [(s.name, s.num_rows) for s in shards])
        folder = folder_of(view.root) / key
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError):
            # Damaged, or removed meanwhile by a search that saw newer vectors: made anew.
            return cls(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(view, model, width, shards, folder)
            found = cls(folder)
        except OSError:
            # What can only be read can still be searched: mapped files are there until nobody maps them.
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                return _made_in(Path(place) / key, view, model, width, shards)
        _remove_others(folder)
        return found

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, places: NDArray[np.int64]) -> list[str]:
        """Ids of the clips at these places."""
        return [bytes(value).decode() for value in self._ids[places]]

    def among(self, clip_ids: pl.Series) -> NDArray[np.bool_]:
        """Which clips (N,) are among these."""
        found = np.zeros(len(self), np.bool_)
        wanted = np.sort(np.array(clip_ids.to_list(), dtype=self._ids.dtype))
        for start in range(0, len(self) if len(wanted) else 0, _BLOCK):
            part = np.asarray(self._ids[start : start + _BLOCK])
            places = np.minimum(np.searchsorted(wanted, part), len(wanted) - 1)
            found[start : start + _BLOCK] = wanted[places] == part
        return found

    def similarities(self, modality: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products (N,) of all clips' vectors of a modality with this one (D,); 0 for clips without."""
        out = np.empty(len(self), np.float32)
        matrix = self._vectors[modality]
        for start in range(0, len(self), _BLOCK):
            out[start : start + _BLOCK] = matrix[start : start + _BLOCK].astype(np.float32) @ vector
        return out


def folder_of(root: Path) -> Path:
    """Where the files of all indexes of a workspace lie."""
    return root / "cache" / "vectors"


def _made_in(folder: Path, view: View, model: str, width: int, shards: Sequence[Shard]) -> VectorIndex:
    """An index whose files lie outside the workspace. Raises BorderError where they can't be written there either."""
    try:
        _make(view, model, width, shards, folder)
        return VectorIndex(folder)
    except OSError as error:
        raise BorderError(
            f"{folder_of(view.root)}, {folder.parent}: can't be written ({error.strerror}). Free space: both are safe "
            "to delete."
        ) from error


def _remove_others(folder: Path) -> None:
    """Remove the files of other moments, each as large as the corpus, but for those that another search may make."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            half = other.name.startswith(".") and abs(time.time() - other.stat().st_mtime) < _HALF_S
            if other.name != folder.name and not half:
                shutil.rmtree(other, ignore_errors=True)


def _make(view: View, model: str, width: int, shards: Sequence[Shard], folder: Path) -> None:
    """Write the files. Raises OSError where they can't be written."""
    with written_whole(folder) as place:
        place.mkdir()
        facts = _write(view, model, width, shards, place)
    # Last: its files take their places one by one, and killed between it must not pass for whole.
    with written_whole(folder / _FACTS) as place:
        place.write_text(json.dumps(facts))


def _write(view: View, model: str, width: int, shards: Sequence[Shard], folder: Path) -> dict[str, object]:
    """Write the arrays; returns what else there is to know of them.

    Two passes over these shards, and no others that came meanwhile: which clips there are, then their vectors, each
    put where its clip is.
    """
    hashes, longest, modalities = [np.zeros(0, np.uint64)], 1, set[str]()
    for frame in _batches(view, model, shards, ["clip_id", "modality"]):
        hashes.append(frame["clip_id"].hash(0).unique().to_numpy())
        longest = max(longest, *frame["clip_id"].str.len_bytes().to_list())
        modalities |= set(frame["modality"].unique())
    clips = np.unique(np.concatenate(hashes))
    ids = _array(folder / "ids.npy", (len(clips),), f"S{longest}")
    vectors = {name: _array(folder / f"{name}.npy", (len(clips), width), "<f2") for name in sorted(modalities)}
    has = {name: np.zeros(len(clips), np.bool_) for name in vectors}
    for frame in _batches(view, model, shards, _COLUMNS):
        places = np.searchsorted(clips, frame["clip_id"].hash(0).to_numpy())
        ids[places] = np.array(frame["clip_id"].to_list(), dtype=ids.dtype)
        for name in vectors:
            rows = (frame["modality"] == name).to_numpy()
            some = frame.filter(rows)["vector"]
            there = (some.bin.size() > 0).to_numpy()
            matrix = np.zeros((len(some), width), np.float16)
            matrix[there] = _matrix(some.filter(there), width, view, model)
            # Of several of a clip the last counts; an empty one says that there is nothing any more.
            vectors[name][places[rows]] = matrix
            has[name][places[rows]] = there
    for name, values in has.items():
        np.save(folder / f"has-{name}.npy", values, allow_pickle=False)
    for array in (ids, *vectors.values()):
        if isinstance(array, np.memmap):
            array.flush()
    return {"width": width, "modalities": sorted(modalities)}


def _array(file: Path, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
    if 0 in shape:
        # Nothing can't be mapped.
        np.save(file, np.zeros(shape, dtype), allow_pickle=False)
        return np.zeros(shape, dtype)
    array: NDArray[np.generic] = np.lib.format.open_memmap(file, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    if hasattr(os, "posix_fallocate"):
        # A disk that is full says so here: while a mapped page is written, it would end the process.
        with open(file, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
    return array


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


def forget_files(root: Path) -> None:
    """Remove the files of all indexes: what a clip left in them goes, and they are made again when they are needed."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder_of(root))
