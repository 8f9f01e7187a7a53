"""Texts by clip, for passes over many clips: each is looked up, and no pass reads a round again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl
import sqlalchemy as sql

from flywheel.core.types import CAPTION, LEARN, Annotation
from flywheel.store import schema
from flywheel.store.columns import SCHEMAS
from flywheel.store.mapped import MappedRows
from flywheel.store.view import View, annotation_of

#: Clips that are looked for in all of a round's texts; an index costs about as much as three such passes.
_FEW = 2048
#: Rows that are read between two returns of the file's pages.
_TAKEN = 1024
#: Rounds whose indexes are kept, those asked for last.
_KEPT = 8


class CaptionIndexes:
    """The captions to learn from of any round of a view, by clip id: 12 bytes of memory for each of a few rounds."""

    def __init__(self, view: View) -> None:
        self._view = view
        #: Round -> what its texts were when the index was made, and the index.
        self._indexes: OrderedDict[int, tuple[object, TextsByClip]] = OrderedDict()

    def of(self, round: int, clip_ids: Sequence[str]) -> dict[str, Annotation]:
        """The round's captions of these clips, by clip id, in the order of the ids."""
        if round not in self._indexes and len(clip_ids) <= _FEW:
            where = (pl.col("kind") == CAPTION) & (pl.col("purpose") == LEARN) & pl.col("clip_id").is_in(list(clip_ids))
            rows = self._view.records.read("annotations", round=round, where=where)
            return {row["clip_id"]: annotation_of(row) for row in rows.iter_rows(named=True)}
        return self._index(round).of(clip_ids)

    def _index(self, round: int) -> TextsByClip:
        stamp = self._stamp(round)
        known, index = self._indexes.get(round, (None, None))
        if index is None or known != stamp:
            index = TextsByClip(self._view, [(round, CAPTION, LEARN)])
            self._indexes[round] = (stamp, index)
        self._indexes.move_to_end(round)
        if len(self._indexes) > _KEPT:
            self._indexes.popitem(last=False)
        return index

    def _stamp(self, round: int) -> object:
        """Numbers that change when texts of the round come or go."""
        shards = schema.shards.c
        query = sql.select(sql.func.sum(shards.num_rows), sql.func.max(shards.position))
        with self._view.database.transaction() as connection:
            of_round = (shards.kind == "annotations") & (shards.round == round)
            return tuple(connection.execute(query.where(of_round)).one())


class TextsByClip:
    """Texts by clip, of a clip's the last: 12 bytes of memory each."""

    def __init__(self, view: View, which: Sequence[tuple[int, str, str]]) -> None:
        """Those of these rounds, kinds and purposes, in this order."""
        empty = pl.DataFrame(schema=pl.Schema(SCHEMAS["annotations"]))
        self._rows = MappedRows(view.root / "cache", partial(_frames, view, which), empty)
        hashes = self._rows.hashes("clip_id")
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]

    def of(self, clip_ids: Sequence[str]) -> dict[str, Annotation]:
        """The texts of these clips, by clip id, in the order of the ids."""
        wanted = pl.Series(list(clip_ids), dtype=pl.String).hash(0).to_numpy()
        # Of several texts of a clip the last counts, as where a round's rows become a dictionary.
        places = np.searchsorted(self._hashes, wanted, side="right") - 1
        there = (places >= 0) & (self._hashes[np.maximum(places, 0)] == wanted) if len(self._hashes) else []
        rows = self._order[places[there]].astype(np.int64)
        # In the order of the file, some at a time: all at once would have all of its pages in memory.
        found: dict[str, Annotation] = {}
        by_row = np.sort(rows)
        for start in range(0, len(by_row), _TAKEN):
            taken = self._rows.rows(by_row[start : start + _TAKEN])
            found |= {row["clip_id"]: annotation_of(row) for row in taken}
            self._rows.release()
        return {clip_id: found[clip_id] for clip_id in clip_ids if clip_id in found}


def _frames(view: View, which: Sequence[tuple[int, str, str]]) -> Iterator[pl.DataFrame]:
    for round, kind, purpose in which:
        yield from view.annotation_batches(round=round, kind=kind, purpose=purpose)
