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

from flywheel.core.types import CAPTION, LEARN, MEASURE, content_id, form_of
from flywheel.store.shards import groups
from flywheel.store.view import View

#: Clips whose facts are looked up together where a split or source is asked for.
_TOGETHER = 512
#: Rows of the first groups of shards that are looked through, doubled with each: a full page is found at once.
_FIRST_ROWS, _MOST_ROWS = 4096, 262_144
#: So many texts of a round are searched by clip; of more the keys are looked up, as annotation makes them.
_FEW_TEXTS = 50_000
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
    wanted, ids = query.offset + query.limit + 1, dict[str, None]()
    for some, is_checked in _candidates(view, query):
        fresh = [clip_id for clip_id in dict.fromkeys(some) if clip_id not in ids]
        together = max(1, len(fresh)) if is_checked else _TOGETHER
        for start in range(0, len(fresh), together):
            part = fresh[start : start + together]
            ids |= dict.fromkeys(part if is_checked else _narrowed(view, query, part))
            if len(ids) >= wanted:
                break
        if len(ids) >= wanted:
            break
    page = list(ids)[query.offset : query.offset + query.limit]
    facts, texts = view.clips_by_id(page, _FACTS), _texts(view, query, page)
    rows = {row["id"]: row for row in facts.drop("content_hash").iter_rows(named=True)}
    found = [FoundClip(**rows[clip_id], texts=texts.get(clip_id, ())) for clip_id in page if clip_id in rows]
    return ClipPage(clips=found, more=len(ids) >= wanted)


def _candidates(view: View, query: ClipQuery) -> Iterator[tuple[list[str], bool]]:
    """Ids of clips, some at a time, and whether it is known that they are of the split and source."""
    if query.rejected:
        rejects = view.rejected(open_only=True)
        ids = rejects.filter(pl.col("clip_id") != "")["clip_id"].unique(maintain_order=True).to_list()
        yield ids if not query.words else [i for i in ids if i in _holding(view, query, ids)], False
        return
    round = _round(view, query)
    if (query.words or query.round is not None) and round is not None:
        is_checked = not (query.split or query.source)
        for ids in _walked(view, "annotations", "clip_id", _holds(pl.col("text"), query.words), round):
            yield ids, is_checked
    if query.round is None:
        tests = [_holds(_beside(), query.words), _is_asked_for(query)]
        where = [test for test in tests if test is not None]
        for ids in _walked(view, "clips", "id", pl.all_horizontal(where) if where else None):
            yield ids, True


def _beside() -> pl.Expr:
    """What is searched of a clip beside its texts."""
    return pl.concat_str("uri", pl.lit(" "), "transcript", pl.lit(" "), "sounds")


def _is_asked_for(query: ClipQuery) -> pl.Expr | None:
    """Whether a clip's row is of the split and source; None where any is."""
    tests = [pl.col("split") == query.split] if query.split else []
    tests += [_holds_word(pl.col("uri"), query.source.lower())] if query.source else []
    return pl.all_horizontal(tests) if tests else None


def _narrowed(view: View, query: ClipQuery, ids: Sequence[str]) -> list[str]:
    """Those of these clips that are of the split and source."""
    where = _is_asked_for(query)
    if where is None:
        return list(ids)
    fit = set(view.clips_by_id(ids, _FACTS).filter(where)["id"])
    return [clip_id for clip_id in ids if clip_id in fit]


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
    words = _holds(_beside(), query.words)
    in_text = _holds(pl.col("text"), query.words)
    assert words is not None
    assert in_text is not None
    return {*found.filter(in_text)["clip_id"], *beside.filter(words)["id"]}


def _holds(text: pl.Expr, words: Sequence[str]) -> pl.Expr | None:
    """Whether a text holds all words (in small letters), however it writes them; None for no words."""
    return pl.all_horizontal([_holds_word(text, word) for word in words]) if words else None


def _holds_word(text: pl.Expr, word: str) -> pl.Expr:
    # Small letters of a million texts take longer than looking through them.
    if word.isascii():
        return text.str.contains_any([word], ascii_case_insensitive=True)
    return text.str.to_lowercase().str.contains(word, literal=True)


def _round(view: View, query: ClipQuery) -> int | None:
    """The round whose texts are meant: the one asked for, else the newest that has some; None without any."""
    return query.round if query.round is not None else max(view.records.rounds("annotations"), default=None)


def _texts(view: View, query: ClipQuery, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Clip id -> its texts of the round."""
    round = _round(view, query)
    if round is None or not ids:
        return {}
    if view.count("annotations", round=round) > _FEW_TEXTS:
        rows = view.records.rows("annotations", _keys(view, round, ids), _TEXT)
    else:
        where = pl.col("clip_id").is_in(list(ids))
        rows = view.records.read("annotations", round=round, columns=_TEXT, where=where)
    out: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        out.setdefault(row.pop("clip_id"), []).append(row)
    return out


def _keys(view: View, round: int, ids: Sequence[str]) -> list[str]:
    """The keys that texts of these clips have in a round: of its kinds, to learn from and measured."""
    kinds = [CAPTION, *view.kinds_of(round)]
    forms = [form_of(kind, purpose) for kind in dict.fromkeys(kinds) for purpose in (LEARN, MEASURE)]
    given = [content_id(0, CAPTION, clip_id, "transcript") for clip_id in ids] if round == 0 else []
    return given + [content_id(round, form, clip_id) for form in forms for clip_id in ids]
