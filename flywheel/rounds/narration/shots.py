"""The videos of a workspace as their shots: clips that follow each other without gaps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from flywheel.core.types import Clip
from flywheel.store.clip_index import ClipIndex

#: Seconds by which a shot may begin beside the end of the one before: sums of binary numbers differ by less.
_SAME_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class Film:
    """A video as its shots, in the order of time and without gaps."""

    content_hash: str
    shots: tuple[Clip, ...]

    @property
    def uri(self) -> str:
        """Where its file is."""
        return self.shots[0].uri

    @property
    def duration_s(self) -> float:
        """The end of its last shot."""
        return self.shots[-1].end_s


def films_of(
    index: ClipIndex, named: Collection[str] = (), limit: int | None = None
) -> tuple[list[Film], dict[str, str]]:
    """The videos of which clips show all, in the order of their files; and why others can't be told.

    ``named`` are ids of clips: then only their videos are taken; of all the first ``limit``. The second value is by the
    video's file.
    """
    columns = ("id", "content_hash", "start_s", "end_s", "uri")
    rows = index.of("train", "test", "anchor").columns(*columns).sort("uri", "content_hash", "start_s", "end_s")
    if named:
        wanted = rows.filter(pl.col("id").is_in(list(named)))["content_hash"].unique()
        rows = rows.filter(pl.col("content_hash").is_in(wanted.implode()))
    films, left_out = list[Film](), dict[str, str]()
    for (content_hash,), of_film in rows.group_by("content_hash", maintain_order=True):
        spans = list(of_film.select("start_s", "end_s").iter_rows())
        if wrong := _broken(spans):
            left_out[str(of_film["uri"][0])] = wrong
            continue
        films.append(Film(content_hash=str(content_hash), shots=tuple(index[clip_id] for clip_id in of_film["id"])))
        if len(films) == limit:
            break
    return films, left_out


def _broken(spans: list[tuple[float, float]]) -> str:
    """Why these spans are no shots of one video; empty where they are."""
    if spans[0][0] > _SAME_S:
        return f"its first clip begins at {spans[0][0]:g} s"
    for (_, end_s), (start_s, _) in pairwise(spans):
        if abs(start_s - end_s) > _SAME_S:
            what = "gap" if start_s > end_s else "overlap"
            return f"its clips have a {what} at {end_s:g} s; corpus.split_by: scene cuts it into shots without gaps"
    return ""
