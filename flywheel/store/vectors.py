"""Clips' vectors as matrices in mapped files: what a search multiplies, made of the records and made again at will.

Records are what counts; the files lie in the cache and are of the records of one moment.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import BorderError
from flywheel.core.files import written_whole
from flywheel.core.types import content_id
from flywheel.store.view import View

#: Changes with what the files hold.
_FORMAT = 1
_FACTS = "facts.json"
#: Clips that are multiplied at a time.
_BLOCK = 32_768
_COLUMNS = ["clip_id", "modality", "vector"]


def vector_row(
    model: str, modality: str, clip_id: str, vector: NDArray[np.float32], of: str = "", number: int = 0
) -> dict[str, object]:
    """The record of a clip's vector, (D,) in half precision.

    Where what it is of can change, ``of`` tells it, and ``number`` how many vectors the clip had before: a text that
    comes back is the last again.
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
        facts = json.loads((folder / _FACTS).read_text())
        self.width: int = facts["width"]
        self.modalities: tuple[str, ...] = tuple(facts["modalities"])
        self._ids = np.load(folder / "ids.npy", mmap_mode="r")
        self._vectors = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.modalities}
        self.has: Mapping[str, NDArray[np.bool_]] = {
            name: np.load(folder / f"has-{name}.npy") for name in self.modalities
        }

    @classmethod
    def open(cls, view: View, model: str, width: int) -> VectorIndex:
        """The index of a model's vectors as they are on record now; its files are made where they are not there.

        Raises BorderError where the records hold vectors of another width.
        """
        shards = view.records.shards("vectors")
        key = content_id("vector-index", _FORMAT, model, [(s.name, s.num_rows) for s in shards])
        folder = folder_of(view.root) / key
        if not (folder / _FACTS).exists():
            _make(view, model, width, folder)
            # Those of other moments go once this one is there: each is as large as the corpus.
            for other in folder.parent.iterdir():
                if other.name != key:
                    shutil.rmtree(other, ignore_errors=True)
        return cls(folder)

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


def _make(view: View, model: str, width: int, folder: Path) -> None:
    """Write the files. Raises BorderError where they can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(folder) as place:
            place.mkdir()
            facts = _write(view, model, width, place)
        # Last: its files take their places one by one, and killed between it must not pass for whole.
        with written_whole(folder / _FACTS) as place:
            place.write_text(json.dumps(facts))
    except OSError as error:
        raise BorderError(
            f"{folder}: can't be written ({error.strerror}). Free space: it is safe to delete."
        ) from error


def _write(view: View, model: str, width: int, folder: Path) -> dict[str, object]:
    """Write the arrays; returns what else there is to know of them.

    Two passes over the records: which clips there are, then their vectors, each put where its clip is.
    """
    hashes, longest, modalities = [np.zeros(0, np.uint64)], 1, set[str]()
    for frame in _batches(view, model, ["clip_id", "modality"]):
        hashes.append(frame["clip_id"].hash(0).unique().to_numpy())
        longest = max(longest, *frame["clip_id"].str.len_bytes().to_list())
        modalities |= set(frame["modality"].unique())
    clips = np.unique(np.concatenate(hashes))
    ids = _array(folder / "ids.npy", (len(clips),), f"S{longest}")
    vectors = {name: _array(folder / f"{name}.npy", (len(clips), width), "<f2") for name in sorted(modalities)}
    has = {name: np.zeros(len(clips), np.bool_) for name in vectors}
    for frame in _batches(view, model, _COLUMNS):
        places = np.searchsorted(clips, frame["clip_id"].hash(0).to_numpy())
        ids[places] = np.array(frame["clip_id"].to_list(), dtype=ids.dtype)
        for name in vectors:
            rows = (frame["modality"] == name).to_numpy()
            # Of several of a clip the last counts.
            vectors[name][places[rows]] = _matrix(frame.filter(rows)["vector"], width, view, model)
            has[name][places[rows]] = True
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
    return np.lib.format.open_memmap(file, "w+", dtype, shape)  # type: ignore[no-any-return,no-untyped-call]


def _batches(view: View, model: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    return view.records.batches("vectors", columns=columns, where=pl.col("model") == model)


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
