"""Clips of different videos that look alike to the encoder: proposed, never removed, and kept on one side if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.core.progress import progress
from flywheel.ingest.sides import side_of, unlisted
from flywheel.models.encoder_files import encoder_id, encoder_width
from flywheel.models.encoders import SOUND, VIDEO
from flywheel.search.in_use import encoder_folder
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex

#: Clips that are compared with all others at a time, and how many of those at once.
_ROWS, _COLUMNS = 512, 16_384
#: Where there is a graph: so many clips of other videos are looked for to each clip, among at most so many near ones.
_NEAREST, _MOST_NEAREST = 32, 2048
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
    """Of how many pairs the videos became one family, and how many on different sides wait for a resplit."""

    united: int = 0
    apart: int = 0


def duplicates(workspace: Workspace, *, least: float, limit: int) -> list[Duplicate]:
    """The ``limit`` pairs that are most alike of those at ``least`` or above, the most alike first.

    Raises UserError without an index, and where the encoder knows no pictures.
    """
    folder = encoder_folder(workspace)
    index = VectorIndex.open(workspace, encoder_id(folder), encoder_width(folder))
    if VIDEO not in index.modalities:
        if len(index):
            raise UserError(
                "index --duplicates: the encoder in use knows no pictures. Name one in index.folder that does."
            )
        return []
    video_of = _videos(workspace, index)
    best = np.zeros((0, 3))
    for found in _alike(index, video_of, least):
        best = np.concatenate([best, found])
        # By a graph a pair can be found from either clip.
        best = best[np.unique(best[:, :2], axis=0, return_index=True)[1]]
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


def _alike(index: VectorIndex, video_of: NDArray[np.uint64], least: float) -> Iterator[NDArray[np.float64]]:
    """Pairs (n, 3) of alike clips of different videos: the place of each, the lower first, and the similarity.

    A video's own clips are on one side as it is.
    """
    rows = np.flatnonzero(index.has[VIDEO] & (video_of > 0))
    graph = index.has_graph(VIDEO)
    with progress("duplicates", len(rows)) as bar:
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            yield from (
                _by_graph(index, some, video_of, least) if graph else _by_all(index, some, rows, video_of, least)
            )
            bar.advance(len(some))


def _by_graph(
    index: VectorIndex, some: NDArray[np.int64], video_of: NDArray[np.uint64], least: float
) -> Iterator[NDArray[np.float64]]:
    for place, vector in zip(some, index.vectors(VIDEO, some).astype(np.float32), strict=True):
        others = _near(index, vector, int(video_of[place]), video_of, least)
        similarity = index.similarities(VIDEO, vector, others)
        yield np.column_stack([np.minimum(others, place), np.maximum(others, place), similarity])


def _near(
    index: VectorIndex, vector: NDArray[np.float32], video: int, video_of: NDArray[np.uint64], least: float
) -> NDArray[np.int64]:
    """Places of clips of other videos that are alike, by the graph: all of them, or the nearest where they are many."""
    count = _NEAREST
    while True:
        # What changed since the graph was made may come twice.
        near = np.unique(index.nearest(VIDEO, vector, count))
        near = near[index.similarities(VIDEO, vector, near) >= least]
        others: NDArray[np.int64] = near[(video_of[near] != video) & (video_of[near] > 0)]
        # A lecture's own clips can be the nearest by far. Where half of what was looked at is not alike, no more is.
        if len(others) >= _NEAREST or 2 * len(near) < count or count >= _MOST_NEAREST:
            return others
        count *= 4


def _by_all(
    index: VectorIndex,
    some: NDArray[np.int64],
    rows: NDArray[np.int64],
    video_of: NDArray[np.uint64],
    least: float,
) -> Iterator[NDArray[np.float64]]:
    vectors = index.vectors(VIDEO, some).astype(np.float32)
    rest = rows[np.searchsorted(rows, some[0]) :]
    for start in range(0, len(rest), _COLUMNS):
        others = rest[start : start + _COLUMNS]
        similarity = vectors @ index.vectors(VIDEO, others).astype(np.float32).T
        first, second = np.nonzero((similarity >= least) & (some[:, None] < others[None]))
        other = video_of[some[first]] != video_of[others[second]]
        first, second = first[other], second[other]
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
