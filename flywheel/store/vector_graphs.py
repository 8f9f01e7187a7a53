"""Graphs of vectors (HNSW, Malkov & Yashunin 2018), by usearch: the nearest are found without a look at all.

A graph says which clips may be the nearest; how near they are is told by the vectors themselves. So it holds them
with 8 bits a number, and may be behind: clips that came or changed since are looked at one by one. Without usearch
there is no graph, and all clips are looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.files import written_whole
from flywheel.store.vector_files import NOT_WHOLE, FilesState

#: Changes with how a graph is made.
_FORMAT = 1
#: Neighbours of a vector, and how many are looked at while one is put in and while one is searched.
_CONNECTIVITY, _LOOKED_AT_IN, _LOOKED_AT_OUT = 16, 128, 128
#: Vectors that are put in between two writings of the file: killed, so much is done again.
_TOGETHER = 131_072
#: Up to so many clips, or such a share of them, are looked at one by one before the graph takes them in.
_REST, _REST_SHARE = 4096, 0.01


@dataclass(frozen=True)
class Graph:
    """A graph that is mapped, and the clips ``rest`` (their places) that it does not know as they are now."""

    _index: Any
    rest: NDArray[np.int64]

    def nearest(self, vector: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Places of about the ``count`` most similar clips, among them some that may be gone."""
        found = self._index.search(vector, min(count, len(self._index)), threads=1)
        return np.asarray(found.keys, np.int64)


def can_make_graphs() -> bool:
    """Whether usearch is installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError:
        return False
    return True


def open_graph(folder: Path, modality: str, state: FilesState) -> Graph | None:
    """The graph of a modality, mapped; None where there is none that is whole."""
    with contextlib.suppress(ImportError, RuntimeError, OSError, *NOT_WHOLE):
        file, known = _read(folder, modality, state)
        return Graph(_restored(file, state.width, mapped=True), _rest(state, modality, known))
    return None


def update_graph(folder: Path, modality: str, state: FilesState, vectors: NDArray[np.float16], threads: int) -> int:
    """Put in what the graph does not know yet, if it is much; returns how many vectors got in.

    The file is written anew, and takes the old one's place, every some ten thousand vectors. Raises OSError where it
    can't be written.
    """
    index, known = _begun(folder, modality, state)
    gone = np.flatnonzero((known > 0) & ~state.has[modality])
    rest = _rest(state, modality, known)
    if len(rest) + len(gone) <= max(_REST, int(_REST_SHARE * state.rows)) and known.any():
        return 0
    with contextlib.suppress(KeyError):
        index.remove(np.concatenate([gone, rest[known[rest] > 0]]).astype(np.uint64))
    known[gone] = 0
    for start in range(0, max(1, len(rest)), _TOGETHER):
        some = rest[start : start + _TOGETHER]
        if len(some):
            # Its keys are in order, and neighbours in the files: read once, from one end to the other.
            index.add(some.astype(np.uint64), vectors[some], threads=threads)
        known[some] = state.changes[modality][some] + np.uint16(1)
        _write(folder, modality, state, index, known)
    return len(rest)


def _rest(state: FilesState, modality: str, known: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Places of clips whose vector is not in the graph, or was another when it got in."""
    return np.flatnonzero(state.has[modality] & (known != state.changes[modality] + np.uint16(1)))


def _begun(folder: Path, modality: str, state: FilesState) -> tuple[Any, NDArray[np.uint16]]:
    """The graph that is there, in memory, or a new one; and what it knows."""
    from usearch.index import Index

    with contextlib.suppress(RuntimeError, OSError, *NOT_WHOLE):
        file, known = _read(folder, modality, state)
        return _restored(file, state.width, mapped=False), known
    index = Index(
        ndim=state.width,
        metric="cos",
        dtype="i8",
        connectivity=_CONNECTIVITY,
        expansion_add=_LOOKED_AT_IN,
        expansion_search=_LOOKED_AT_OUT,
    )
    return index, np.zeros(state.rows, np.uint16)


def _read(folder: Path, modality: str, state: FilesState) -> tuple[Path, NDArray[np.uint16]]:
    """The graph's file and, of each clip, 1 more than how often its vector had changed when it got in (0: is not in).

    Raises one of :data:`NOT_WHOLE` where there is none that is whole.
    """
    with np.load(_facts(folder, modality), allow_pickle=False) as kept:
        facts, known = json.loads(bytes(kept["facts"])), kept["known"]
    file = folder / facts["file"]
    if facts["format"] != _FORMAT or file.stat().st_size != facts["bytes"] or len(known) > state.rows:
        raise ValueError(f"{file}: is not the graph that was written")
    return file, np.concatenate([known, np.zeros(state.rows - len(known), np.uint16)])


def _restored(file: Path, width: int, *, mapped: bool) -> Any:
    from usearch.index import Index

    index: Any = Index.restore(str(file), view=mapped)
    if index is None or index.ndim != width:
        raise ValueError(f"{file}: is no graph of vectors of {width} numbers")
    index.expansion_add, index.expansion_search = _LOOKED_AT_IN, _LOOKED_AT_OUT
    return index


def _write(folder: Path, modality: str, state: FilesState, index: Any, known: NDArray[np.uint16]) -> None:
    """Write the graph beside the one before, and then what says which counts. Raises OSError where it can't."""
    file = folder / f"{modality}-{uuid.uuid4().hex[:8]}.usearch"
    with written_whole(file) as place:
        try:
            index.save(str(place))
        except RuntimeError as error:
            raise OSError(f"{file}: can't be written ({error})") from error
        with open(place, "rb+") as written:
            os.fsync(written.fileno())
    facts = json.dumps({"format": _FORMAT, "file": file.name, "bytes": file.stat().st_size})
    with written_whole(_facts(folder, modality)) as place, open(place, "wb") as out:
        np.savez(out, allow_pickle=False, facts=np.frombuffer(facts.encode(), np.uint8), known=known)
        out.flush()
        os.fsync(out.fileno())
    for other in folder.glob(f"{modality}-*.usearch"):
        if other.name != file.name:
            other.unlink(missing_ok=True)


def _facts(folder: Path, modality: str) -> Path:
    return folder / f"{modality}.graph.npz"
