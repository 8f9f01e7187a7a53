"""Clips of different videos that look alike to the encoder: proposed, never removed, and kept on one side if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.progress import progress
from flywheel.ingest.sides import side_of, unlisted
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import SOUND, VIDEO
from flywheel.search.training import encoder_folder
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex

#: Clips that are compared with all others at a time, and how many of those at once.
_ROWS, _COLUMNS = 512, 16_384
#: Where there is a graph: so many of the nearest of each clip are looked at.
_NEAREST = 32
_FACTS = ["id", "uri", "content_hash", "split", "start_s", "end_s"]


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two clips of different videos whose pictures are alike; ``sound`` is None where one has none.

    Similarities are cosines. ``apart`` says that the two are on different sides of the split.
    """

    first: str
    second: str
    uris: tuple[str, str]
    starts_s: tuple[float, float]
    video: float
    sound: float | None
    splits: tuple[str, str]
    apart: bool

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class KeptTogether:
    """How many videos became one family with another, and how many on different sides wait for a resplit."""

    united: int = 0
    apart: int = 0


def duplicates(workspace: Workspace, *, least: float, limit: int) -> list[Duplicate]:
    """The ``limit`` pairs that are most alike of those at ``least`` or above, the most alike first.

    Raises UserError without an index.
    """
    folder = encoder_folder(workspace)
    index = VectorIndex.open(workspace, encoder_id(folder), load_encoder(folder).width)
    if VIDEO not in index.modalities:
        return []
    video_of = _videos(workspace, index)
    best = np.zeros((0, 3))
    for found in _alike(index, least):
        first, second = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
        # A video's own clips are on one side as it is. Numbers of clips that went since are 0.
        other = (video_of[first] != video_of[second]) & (video_of[first] > 0) & (video_of[second] > 0)
        best = np.concatenate([best, found[other]])
        best = best[np.lexsort((best[:, 1], best[:, 0], -best[:, 2]))][:limit]
    return _described(workspace, index, best)


def keep_together(workspace: Workspace, pairs: Sequence[Duplicate]) -> KeptTogether:
    """Put the videos of these pairs on one side of the split; the caller holds the lock.

    Those that are on one side become one family at once; of those on two it is noted that they belong together, and the
    next resplit puts them on one side.
    """
    workspace.videos.list_older()
    united = apart = 0
    for pair in pairs:
        contents = workspace.clips_by_id([pair.first, pair.second], ["id", "uri", "content_hash"])["content_hash"]
        known = workspace.videos.known(contents)
        videos = [known.get(content) or unlisted(content) for content in contents]
        families = {video.family for video in videos if video.family}
        if len(families) < 2:
            continue
        if len({side_of(video) for video in videos}) > 1:
            workspace.videos.note_joined(families)
            apart += 1
        else:
            workspace.videos.unite(families, min(families))
            united += 1
    return KeptTogether(united=united, apart=apart)


def _videos(workspace: Workspace, index: VectorIndex) -> NDArray[np.uint64]:
    """Of each clip (N,) a number of its video; 0 for clips that went."""
    numbers = np.zeros(len(index), np.uint64)
    for frame in workspace.clip_batches(["id", "uri", "content_hash"]):
        places = index.places(frame["id"])
        numbers[places[places >= 0]] = frame["content_hash"].hash(1).to_numpy()[places >= 0] | np.uint64(1)
    return numbers


def _alike(index: VectorIndex, least: float) -> Iterator[NDArray[np.float64]]:
    """Pairs (n, 3) of clips whose pictures are alike: the place of each, the lower first, and the similarity."""
    rows = np.flatnonzero(index.has[VIDEO])
    with progress("duplicates", len(rows)) as bar:
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            yield from _by_graph(index, some, least) if index.has_graph(VIDEO) else _by_all(index, some, rows, least)
            bar.advance(len(some))


def _by_graph(index: VectorIndex, some: NDArray[np.int64], least: float) -> Iterator[NDArray[np.float64]]:
    for place, vector in zip(some, index.vectors(VIDEO, some).astype(np.float32), strict=True):
        near = index.nearest(VIDEO, vector, _NEAREST)
        similarity = index.similarities(VIDEO, vector, near)
        alike = (similarity >= least) & (near > place)
        yield np.column_stack([np.full(int(alike.sum()), place), near[alike], similarity[alike]])


def _by_all(
    index: VectorIndex, some: NDArray[np.int64], rows: NDArray[np.int64], least: float
) -> Iterator[NDArray[np.float64]]:
    vectors = index.vectors(VIDEO, some).astype(np.float32)
    rest = rows[np.searchsorted(rows, some[0]) :]
    for start in range(0, len(rest), _COLUMNS):
        others = rest[start : start + _COLUMNS]
        similarity = vectors @ index.vectors(VIDEO, others).astype(np.float32).T
        first, second = np.nonzero((similarity >= least) & (some[:, None] < others[None]))
        yield np.column_stack([some[first], others[second], similarity[first, second]])


def _described(workspace: Workspace, index: VectorIndex, best: NDArray[np.float64]) -> list[Duplicate]:
    first, second = best[:, 0].astype(np.int64), best[:, 1].astype(np.int64)
    ids = list(zip(index.ids(first), index.ids(second), strict=True))
    rows = {row["id"]: row for row in _rows(workspace, ids).iter_rows(named=True)}
    heard = SOUND in index.modalities
    found = []
    for (one, other), a, b, similarity in zip(ids, first, second, best[:, 2], strict=True):
        sound = None
        if heard and index.has[SOUND][a] and index.has[SOUND][b]:
            x, y = index.vectors(SOUND, np.array([a, b])).astype(np.float32)
            sound = round(float(x @ y), 4)
        both = rows[one], rows[other]
        found.append(
            Duplicate(
                first=one,
                second=other,
                uris=(both[0]["uri"], both[1]["uri"]),
                starts_s=(both[0]["start_s"], both[1]["start_s"]),
                video=round(float(similarity), 4),
                sound=sound,
                splits=(both[0]["split"], both[1]["split"]),
                apart=both[0]["split"] != both[1]["split"],
            )
        )
    return found


def _rows(workspace: Workspace, pairs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    return workspace.clips_by_id({clip_id for pair in pairs for clip_id in pair}, _FACTS)
