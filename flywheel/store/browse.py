"""Clips by words, split, source, round and failures: a page at a time, from no more rows than the page needs.

Shards are looked through one group after the other and no further than to the page's end, and of a search for words
only those that hold them (:mod:`flywheel.store.word_index`): a page of a million clips takes what its rows take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, LEARN, MEASURE, content_id, form_of
from flywheel.store.database import parts
from flywheel.store.shards import Shard, growing_groups
from flywheel.store.view import View
from flywheel.store.word_index import SEARCHED, WordIndex, word_groups

#: Clips whose facts are looked up together where a split or source is asked for, and whose texts are.
_TOGETHER, _FEW_TOGETHER = 512, 64
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
    clips with an open reject. The list begins behind the clip ``after`` (an id, or its beginning; empty for all of it),
    which costs the same wherever that is; ``offset`` clips are passed over, and ``limit`` given.
    """

    search: str = ""
    split: str = ""
    source: str = ""
    round: int | None = None
    rejected: bool = False
    after: str = ""
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
    """The clips of a page, and whether there are more after them: ``after`` the id that begins the next page."""

    clips: Sequence[FoundClip]
    more: bool
    after: str = ""


def find_clips(view: View, query: ClipQuery) -> ClipPage:
    """The clips of a query, in the order in which their texts, or they, were written.

    Raises UserError where ``after`` is no clip of the list.
    """
    search = _Search(view, query)
    wanted, ids = query.offset + query.limit + 1, dict[str, None]()
    for fresh in search.found():
        ids |= dict.fromkeys(fresh)
        if len(ids) + search.skipped >= wanted:
            break
    start = query.offset - search.skipped
    page = list(ids)[start : start + query.limit]
    facts, texts = view.clips_by_id(page, _FACTS), search.texts(page)
    rows = {row["id"]: row for row in facts.drop("content_hash").iter_rows(named=True)}
    found = [FoundClip(**rows[clip_id], texts=texts[clip_id]) for clip_id in page if clip_id in rows]
    more = len(ids) + search.skipped >= wanted
    return ClipPage(clips=found, more=more, after=page[-1] if more and page else "")


class _Search:
    """A query on its way through the records, with the texts of clips that it met."""

    def __init__(self, view: View, query: ClipQuery) -> None:
        self._view, self._query, self._words = view, query, query.words
        self._round = _round(view, query)
        self._index = WordIndex(view.records)
        self._texts: dict[str, list[dict[str, Any]]] = {}
        #: Clips that are looked at together: a page, or more where many are passed over.
        self._together = min(_TOGETHER, max(_FEW_TOGETHER, query.offset + query.limit))
        #: Clips of the offset whose shards were not even opened.
        self.skipped = 0

    def found(self) -> Iterator[list[str]]:
        """Ids of the clips, each once, some at a time."""
        query = self._query
        after = self._whole(query.after) if query.after else ""
        if query.rejected:
            for part in parts(self._rejected(after), _TOGETHER):
                yield _narrowed(self._view, query, part)
            return
        by_text = (bool(self._words) or query.round is not None) and self._round is not None
        text = self._first_text(after) if after and by_text else ""
        if by_text and (text or not after):
            yield from self._by_text(text)
        if query.round is None:
            yield from self._by_clip("" if text else after, by_text)

    def texts(self, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Clip id -> its texts of the round, in the order in which they were written."""
        if missing := [clip_id for clip_id in ids if clip_id not in self._texts]:
            self._texts |= {clip_id: [] for clip_id in missing} | _texts(self._view, self._round, missing)
        return {clip_id: self._texts[clip_id] for clip_id in ids}

    def _whole(self, beginning: str) -> str:
        ids = self._view.records.keys_from("clips", beginning)
        if len(ids) != 1:
            raise UserError(f"--after {beginning}: names {len(ids) or 'no'} clips. Give the id of the last one listed.")
        return ids[0]

    def _rejected(self, after: str) -> list[str]:
        rejects = self._view.rejected(open_only=True).filter(pl.col("clip_id") != "")
        ids: list[str] = rejects["clip_id"].unique(maintain_order=True).to_list()
        if after and after not in ids:
            raise UserError(f"--after {self._query.after}: nothing is rejected of this clip now. Leave --after out.")
        ids = ids[ids.index(after) + 1 :] if after else ids
        holding = _holding(self._view, self._words, ids) if self._words else set(ids)
        return [clip_id for clip_id in ids if clip_id in holding]

    def _by_text(self, after: str) -> Iterator[list[str]]:
        """Clips with a text of the round that holds the words; one with several is where the first of them is."""
        where = _holds(pl.col("text"), self._words)
        for rows in self._walked("annotations", ["id", "clip_id"], self._words, where, after, self._round):
            here = set(rows["id"])
            for part in parts(rows["clip_id"].unique(maintain_order=True).to_list(), self._together):
                fit = _narrowed(self._view, self._query, part)
                keys = _keys(self._view, self._round, fit)
                several = {keys[key] for key in self._view.records.known("annotations", keys) - here}
                self.texts(sorted(several))
                yield [clip_id for clip_id in fit if clip_id not in several or self._first_text(clip_id) in here]

    def _by_clip(self, after: str, by_text: bool) -> Iterator[list[str]]:
        """Clips of the split and source that hold the words beside their texts."""
        tests = [_holds(SEARCHED["clips"], self._words), _is_asked_for(self._query)]
        where = [test for test in tests if test is not None]
        words = [*self._words, *self._query.source.lower().split()]
        for rows in self._walked("clips", ["id"], words, pl.all_horizontal(where) if where else None, after):
            if not by_text:
                yield rows["id"].to_list()
                continue
            for part in parts(rows["id"], self._together):
                self.texts(part)
                # Those with the words in a text are in the list already.
                yield [clip_id for clip_id in part if not self._first_text(clip_id)]

    def _first_text(self, clip_id: str) -> str:
        """Id of the clip's first text of the round that holds the words; empty where none does."""
        texts = self.texts([clip_id])[clip_id]
        if texts and (where := _holds(pl.col("text"), self._words)) is not None:
            texts = pl.DataFrame(texts).filter(where).head(1).to_dicts()
        return texts[0]["id"] if texts else ""

    def _walked(
        self,
        kind: str,
        columns: Sequence[str],
        words: Sequence[str],
        where: pl.Expr | None,
        after: str,
        round: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Columns of the rows of a kind that come after the one with the key ``after``, some shards at a time."""
        records = self._view.records
        shards = records.shards(kind, round=round)
        if where is None and not after and round is None:
            shards = self._without_skipped(shards)
        position = records.position(kind, after) if after else 0
        groups = word_groups(shards)
        if not words:
            groups = growing_groups([s for s in shards if s.position >= position], _FIRST_ROWS, _MOST_ROWS)
        for group in groups:
            rest = [shard for shard in group if shard.position >= position]
            if not rest or not self._index.can_hold(kind, group, words):
                continue
            rows = records.of_shards(kind, rest, columns, where)
            if rest[0].first <= position:
                ids = records.of_shards(kind, rest[:1], ["id"])["id"]
                rows = rows.filter(~pl.col("id").is_in(ids.head((ids.index_of(after) or 0) + 1).implode()))
            yield rows

    def _without_skipped(self, shards: list[Shard]) -> list[Shard]:
        """The shards without those whose clips are all passed over."""
        for number, shard in enumerate(shards):
            if self.skipped + shard.num_rows > self._query.offset:
                return shards[number:]
            self.skipped += shard.num_rows
        return []


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


def _holding(view: View, words: Sequence[str], ids: Sequence[str]) -> set[str]:
    """Those of these clips of which a text, or the file, holds the words."""
    found = view.records.of_clips("annotations", ids, ["clip_id", "text"])
    beside = view.records.rows("clips", ids, ["id", "uri", "transcript", "sounds"])
    in_text, in_file = _holds(pl.col("text"), words), _holds(SEARCHED["clips"], words)
    assert in_text is not None
    assert in_file is not None
    return {*found.filter(in_text)["clip_id"], *beside.filter(in_file)["id"]}


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


def _texts(view: View, round: int | None, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Clip id -> its texts of the round."""
    if round is None:
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


def _keys(view: View, round: int | None, ids: Sequence[str]) -> dict[str, str]:
    """The keys that texts of these clips can have in a round -> the clip: of its kinds, to learn from and measured."""
    kinds = [CAPTION, *(view.kinds_of(round) if round else ())]
    forms = [form_of(kind, purpose) for kind in dict.fromkeys(kinds) for purpose in (LEARN, MEASURE)]
    given = {content_id(0, CAPTION, clip_id, "transcript"): clip_id for clip_id in ids} if round == 0 else {}
    return given | {content_id(round, form, clip_id): clip_id for form in forms for clip_id in ids}
