"""Clips that are like a text, a video or a sound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.search.asking import Asked, NoVectorOfText, SearchQuery, asked_of
from flywheel.search.in_use import encoder_folder
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex

__all__ = ["Found", "NoVectorOfText", "SearchQuery", "Searcher"]

#: Clips that are looked up beyond those that are wanted: some may have gone since.
_SPARE = 64
#: So many times as many of the nearest are ranked as are wanted, by each modality: the best by all are among them. A
#: look at each clip costs less than at more than the most of them.
_CANDIDATES, _MOST_CANDIDATES = 4, 8192
_FACTS = ["id", "uri", "content_hash", "start_s", "end_s"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A clip that is like what was asked for.

    ``score`` is by how many standard deviations it is more like it than clips are in the mean; ``by`` says it of what
    the clip has: ``video``, ``sound``, ``text``.
    """

    clip_id: str
    uri: str
    start_s: float
    end_s: float
    score: float
    by: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**asdict(self), "by": dict(self.by)}


class Searcher:
    """A workspace that is searched: its encoder and its vectors, read once. Threads may share it."""

    def __init__(self, workspace: Workspace) -> None:
        """Raises UserError without an index, and where the encoder's folder has none of its vectors."""
        folder = encoder_folder(workspace)
        self._workspace, self.encoder = workspace, load_encoder(folder)
        model = encoder_id(folder)
        self._index = VectorIndex.open(workspace, model, self.encoder.width)
        if not len(self._index):
            others = workspace.count("vectors")
            beside = f" ({others} are of another encoder)" if others else ""
            raise UserError(f"{workspace.root}: has no vectors of encoder {model}{beside}. Run 'flywheel index'.")

    def __len__(self) -> int:
        return len(self._index)

    def search(self, query: SearchQuery) -> list[Found]:
        """The clips that are most like what is asked for, best first.

        Raises UserError for a query that says nothing, that the encoder knows nothing of, or that can't be read.
        """
        asked = asked_of(self.encoder, query)
        allowed, count = _allowed(self._workspace, self._index, query), query.limit + _SPARE
        if (near := self._nearest(asked, count, allowed)) is not None:
            found = self._best(asked, near, count)
            if len(found) >= query.limit:
                return found[: query.limit]
        return self._best(asked, None if allowed is None else np.flatnonzero(allowed), count)[: query.limit]

    def _nearest(
        self, asked: Sequence[Asked], count: int, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.int64] | None:
        """Places of clips among which the best are; None where all must be looked at.

        They are the nearest by each modality. Where few clips are allowed, too few of the nearest are.
        """
        share = 1.0 if allowed is None else float(allowed.mean()) if len(allowed) else 0.0
        wanted = _CANDIDATES * count / max(share, 1e-9)
        graphs = [self._index.has_graph(name) for name in self._index.modalities]
        if wanted > _MOST_CANDIDATES or not any(graphs):
            return None
        near = []
        for name, graph in zip(self._index.modalities, graphs, strict=True):
            for vectors in asked:
                vector = vectors[name]
                if graph:
                    near.append(self._index.nearest(name, vector, math.ceil(wanted)))
                else:
                    # Few clips have it.
                    has = np.flatnonzero(self._index.has[name])
                    near.append(has[_first(self._index.similarities(name, vector, has), math.ceil(wanted))])
        places = np.unique(np.concatenate(near))
        return places if allowed is None else places[allowed[places]]

    def _best(self, asked: Sequence[Asked], places: NDArray[np.int64] | None, count: int) -> list[Found]:
        """The best ``count`` of the clips at these places, or of all, best first; without those that went since."""
        scores, by = self._scores(asked, places)
        first = _first(scores, count)
        first = first[np.isfinite(scores[first])]
        return self._found(first if places is None else places[first], scores[first], _at(by, first))

    def _scores(
        self, asked: Sequence[Asked], places: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Of each of these clips its score (n,), and by each modality what it adds, nan where the clip has none."""
        by: dict[str, NDArray[np.float32]] = {}
        for name in self._index.modalities:
            has = self._index.has[name] if places is None else self._index.has[name][places]
            sums = np.zeros(len(has), np.float32)
            for vectors in asked:
                vector = vectors[name]
                sums += _standard(self._index.similarities(name, vector, places), *self._index.spread(name, vector))
            by[name] = np.where(has, sums / math.sqrt(len(asked)), np.float32(np.nan))
        values = np.stack(list(by.values()))
        there = ~np.isnan(values)
        # Of unrelated clips all scores vary alike, whether a clip has one modality or three.
        total = np.nansum(values, axis=0) / np.sqrt(np.maximum(there.sum(0), 1))
        return np.where(there.any(0), total, -np.inf).astype(np.float32), by

    def _found(
        self, places: NDArray[np.int64], scores: NDArray[np.float32], by: Mapping[str, NDArray[np.float32]]
    ) -> list[Found]:
        ids = self._index.ids(places)
        rows = {row["id"]: row for row in self._workspace.clips_by_id(ids, _FACTS).iter_rows(named=True)}
        return [
            Found(
                clip_id=clip_id,
                uri=rows[clip_id]["uri"],
                start_s=rows[clip_id]["start_s"],
                end_s=rows[clip_id]["end_s"],
                score=round(float(scores[number]), 4),
                by={name: round(float(z[number]), 4) for name, z in by.items() if not np.isnan(z[number])},
            )
            for number, clip_id in enumerate(ids)
            if clip_id in rows
        ]


def _standard(similarities: NDArray[np.float32], mean: float, spread: float) -> NDArray[np.float32]:
    """Similarities as standard deviations above the mean of the clips that have any.

    Vectors of two modalities lie apart, so that a sound is never as like a text as another text is.
    """
    if spread < 1e-6:
        return np.zeros_like(similarities)
    return ((similarities - np.float32(mean)) / np.float32(spread)).astype(np.float32)


def _first(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the highest scores, highest first; equal ones in their order."""
    count = min(count, len(scores))
    first = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    ordered: NDArray[np.int64] = first[np.lexsort((first, -scores[first]))]
    return ordered


def _at(by: Mapping[str, NDArray[np.float32]], places: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    return {name: values[places] for name, values in by.items()}


def _allowed(workspace: Workspace, index: VectorIndex, query: SearchQuery) -> NDArray[np.bool_] | None:
    """Which clips (N,) are of the split, source and round that are asked for; None where all are."""
    allowed: NDArray[np.bool_] | None = None
    if query.split or query.source:
        allowed = np.zeros(len(index), np.bool_)
        columns = ["id", "uri"] if query.source else ["id"]
        for frame in workspace.clip_batches(columns, query.split or None):
            chosen = frame.filter(pl.col("uri").str.contains(query.source, literal=True)) if query.source else frame
            allowed |= index.among(chosen["id"])
    if query.round is not None:
        written = np.zeros(len(index), np.bool_)
        for frame in workspace.records.batches("annotations", columns=["clip_id"], round=query.round):
            written |= index.among(frame["clip_id"])
        allowed = written if allowed is None else allowed & written
    if query.without_speech:
        quiet = _without_speech(workspace, index)
        allowed = quiet if allowed is None else allowed & quiet
    return allowed


def _without_speech(workspace: Workspace, index: VectorIndex) -> NDArray[np.bool_]:
    """Which clips (N,) nobody speaks in, as far as is known. Raises UserError where nothing is known of any sound."""
    quiet, known = np.zeros(len(index), np.bool_), False
    for frame in workspace.clip_batches(["id", "has_audio"]):
        quiet |= index.among(frame.filter(~pl.col("has_audio"))["id"])
    for frame in workspace.records.batches("asr_transcripts", columns=["clip_id", "transcript"]):
        known = True
        # Of a clip's the last stands.
        last = frame.unique("clip_id", keep="last", maintain_order=True)
        nobody = last["transcript"].str.strip_chars() == ""
        quiet |= index.among(last.filter(nobody)["clip_id"])
        quiet &= ~index.among(last.filter(~nobody)["clip_id"])
    if not known and not quiet.any():
        raise UserError(
            "--without-speech: it is not known in which clips anybody speaks. Run 'flywheel transcribe' first, or "
            "leave it out."
        )
    return quiet
