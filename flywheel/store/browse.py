"""Clips by words, split, source, round and failures: a page at a time, from no more rows than the page needs.

Shards are looked through one group after the other and no further than to the page's end, so a page of a million clips
takes what its rows take, and only a search for rare words reads all of a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.store.shards import groups
from flywheel.store.view import View

#: Clips whose facts are looked up together where a split or source is asked for.
_TOGETHER = 512
#: Rows of the first groups of shards that are looked through, doubled with each: a full page is found at once.
_FIRST_ROWS, _MOST_ROWS = 4096, 262_144
_FACTS = ["id", "uri", "content_hash", "start_s", "end_s", "split", "transcript"]
_TEXT = ["clip_id", "id", "round", "kind", "source", "purpose", "text"]


@dataclass(frozen=True, kw_only=True)
class ClipQuery:
    """Which clips: all words of ``search`` stand in a text, or in the file's name, transcript or sounds.

    ``source`` is a part of the file's path. ``round`` takes that round's texts, by default the newest; ``rejected``
    clips with an open reject. ``offset`` clips are passed over, and ``limit`` given.
    """

    search: str = ""
    split: str = ""
    source: str = ""
    round: int | None = None
    rejected: bool = False
    offset: int = 0
    limit: int = 20

    @property
    def words(self) -> list[str]:
        """The words that are searched for, in small letters."""
        return self.search.lower().split()


@dataclass(frozen=True, kw_only=True)
class FoundClip:
    """A clip with its file, span and split, and its texts: the round's, and what came with the video."""

    id: str
    uri: str
    start_s: float
    end_s: float
    split: str
    transcript: str
    texts: Sequence[dict[str, Any]]

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.uri).name

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, with ``name``."""
        return {**asdict(self), "name": self.name}


@dataclass(frozen=True, kw_only=True)
class ClipPage:
    """The clips of a page, and whether there are more after them."""

    clips: Sequence[FoundClip]
    more: bool


def find_clips(view: View, query: ClipQuery) -> ClipPage:
    """The clips of a query, in the order in which their texts, or they, were written."""
    wanted, seen = query.offset + query.limit + 1, dict[str, dict[str, Any]]()
    for ids in _candidates(view, query):
        fresh = [clip_id for clip_id in dict.fromkeys(ids) if clip_id not in seen]
        narrow = bool(query.split or query.source)
        for start in range(0, len(fresh), _TOGETHER if narrow else max(1, wanted)):
            some = fresh[start : start + (_TOGETHER if narrow else max(1, wanted))]
            seen |= _facts(view, query, some)
            if len(seen) >= wanted:
                break
        if len(seen) >= wanted:
            break
    rows = list(seen.values())[query.offset : query.offset + query.limit]
    texts = _texts(view, query, [row["id"] for row in rows])
    found = [FoundClip(**row, texts=texts.get(row["id"], ())) for row in rows]
    return ClipPage(clips=found, more=len(seen) >= wanted)


def _candidates(view: View, query: ClipQuery) -> Iterator[list[str]]:
    """Ids of clips that may be meant, some at a time."""
    if query.rejected:
        rejects = view.rejected(open_only=True)
        hits = rejects.filter(pl.col("clip_id") != "")
        ids = hits["clip_id"].unique(maintain_order=True).to_list()
        yield ids if not query.words else [i for i in ids if i in _holding(view, query, ids)]
        return
    round = _round(view, query)
    if (query.words or query.round is not None) and round is not None:
        yield from _walked(view, "annotations", "clip_id", _holds(pl.col("text"), query.words), round)
    if query.round is None:
        beside = pl.concat_str("uri", pl.lit(" "), "transcript", pl.lit(" "), "sounds")
        yield from _walked(view, "clips", "id", _holds(beside, query.words))


def _walked(view: View, kind: str, column: str, where: pl.Expr | None, round: int | None = None) -> Iterator[list[str]]:
    """A column of the rows of a kind, group of shards by group, the first ones small."""
    shards, rows = view.records.shards(kind, round=round), _FIRST_ROWS
    while shards:
        group = next(groups(shards, rows))
        yield view.records.of_shards(kind, group, [column], where)[column].to_list()
        shards, rows = shards[len(group) :], min(_MOST_ROWS, 2 * rows)


def _holding(view: View, query: ClipQuery, ids: Sequence[str]) -> set[str]:
    """Those of these clips of which a text, or the file, holds the words."""
    found = view.records.of_clips("annotations", ids, ["clip_id", "text"])
    beside = view.records.rows("clips", ids, ["id", "uri", "transcript", "sounds"])
    words = _holds(pl.concat_str("uri", pl.lit(" "), "transcript", pl.lit(" "), "sounds"), query.words)
    in_text = _holds(pl.col("text"), query.words)
    assert words is not None
    assert in_text is not None
    return {*found.filter(in_text)["clip_id"], *beside.filter(words)["id"]}


def _holds(text: pl.Expr, words: Sequence[str]) -> pl.Expr | None:
    small = text.str.to_lowercase()
    return pl.all_horizontal([small.str.contains(word, literal=True) for word in words]) if words else None


def _round(view: View, query: ClipQuery) -> int | None:
    """The round whose texts are meant: the one asked for, else the newest that has some; None without any."""
    return query.round if query.round is not None else max(view.records.rounds("annotations"), default=None)


def _facts(view: View, query: ClipQuery, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Id -> facts of those of these clips that are of the split and source, in their order."""
    frame = view.clips_by_id(ids)
    if query.split:
        frame = frame.filter(pl.col("split") == query.split)
    if query.source:
        frame = frame.filter(pl.col("uri").str.to_lowercase().str.contains(query.source.lower(), literal=True))
    names = [name for name in _FACTS if name != "content_hash"]
    rows = {row["id"]: row for row in frame.select(names).iter_rows(named=True)}
    return {clip_id: rows[clip_id] for clip_id in ids if clip_id in rows}


def _texts(view: View, query: ClipQuery, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Clip id -> its texts of the round."""
    round = _round(view, query)
    if round is None or not ids:
        return {}
    where = pl.col("clip_id").is_in(list(ids))
    rows = view.records.read("annotations", round=round, columns=_TEXT, where=where)
    out: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        out.setdefault(row.pop("clip_id"), []).append(row)
    return out
