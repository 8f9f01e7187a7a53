"""The records as the queue last saw them: the order of the texts, and what people have judged of it since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.types import CAPTION
from flywheel.store.arrays import is_among
from human_refine.items import EDITABLE_KINDS
from human_refine.order import Order, Ranking, Rows, ranked, rows_where
from human_refine.signals import clip_keys, is_lasting, signal
from human_refine.texts import ANCHOR, TRAIN, TextIndex
from human_refine.verdicts import Verdicts

#: Key of a clip, and a kind's place in :data:`EDITABLE_KINDS`.
Pair = tuple[int, int]
_AT_A_TIME = 1024


class QueueView:
    """One look at the records. :meth:`adopt` makes it ready; the queue's lock guards it from then on."""

    def __init__(
        self,
        *,
        index: TextIndex,
        verdicts: Verdicts,
        gold: Iterable[str] = (),
        settled: Sequence[str] = (),
        pairs: Mapping[str, Pair] = MappingProxyType({}),
        rankings: Mapping[str, Rows] | None = None,
    ) -> None:
        """``gold`` are clip ids, ``settled`` annotation ids; ``pairs`` has those of them that are of earlier rounds.

        ``rankings`` are those of the lasting signals, where an earlier view of the same index has them.
        """
        self.index, self.verdicts, self.pairs = index, verdicts, pairs
        splits = index.row_splits
        is_gold = is_among(index.clips(), clip_keys(pl.Series(list(gold), dtype=pl.String)))
        gold_rows = np.flatnonzero(is_gold & (index.kinds() == EDITABLE_KINDS.index(CAPTION)))
        #: Ids of the texts of gold clips.
        self.gold_ids = {index.id_of(row) for row in gold_rows.tolist()}
        # What people said of a clip in an earlier round stands: they are not asked again.
        left_out = is_gold | self._settled_before(settled)
        shown = ~left_out & ((splits == TRAIN) | (splits == ANCHOR))
        self._shown: NDArray[np.bool_] = shown
        self._lasting = dict(rankings or self._lasting_rankings(splits == TRAIN))
        #: Rows of anchors in their order, which is random.
        self._anchors = rows_where(shown & (splits == ANCHOR))
        self._order = Order(
            train=rows_where(shown & (splits == TRAIN)),
            anchors=self._anchors,
            rankings=self._rankings(shown & (splits == TRAIN), ~left_out),
            random_share=index.workspace.config.review.random_share,
            num_rows=len(index),
        )
        self.num_texts = self._order.num_texts
        self._settled: set[str] = set()
        #: Rows that enough people settled, and places that are still open.
        self._closed = bytearray(len(index))
        self._open = bytearray()
        #: No place before this one is open to anybody.
        self._first = 0

    def _settled_before(self, settled: Sequence[str]) -> NDArray[np.bool_]:
        """Rows whose clip has a text of the same kind that people settled in an earlier round."""
        pairs = [self.pairs[i] for i in settled if i in self.pairs]
        clips, kinds = self.index.clips(), self.index.kinds()
        rows = np.zeros(len(self.index), dtype=bool)
        for number in range(len(EDITABLE_KINDS)):
            keys = [clip for clip, kind in pairs if kind == number]
            if keys:
                rows |= (kinds == number) & is_among(clips, np.array(keys, dtype=np.uint64))
        return rows

    # The order.

    def rankings_of(self, index: TextIndex) -> Mapping[str, Rows] | None:
        """The rankings by lasting signals, where they are of this index."""
        return self._lasting if index is self.index else None

    def _lasting_rankings(self, train: NDArray[np.bool_]) -> dict[str, Rows]:
        values, by_id = self.index.current.values, self.index.id_ranks
        return {name: ranked(values[name], by_id, train) for name in self.index.signals if name in values}

    def _rankings(self, train: NDArray[np.bool_], asked: NDArray[np.bool_]) -> list[Ranking]:
        rankings = []
        for name in self.index.signals:
            if name in self._lasting:
                rows = self._lasting[name]
                rankings.append(Ranking(name=name, rows=rows[train[rows]]))
            elif len(self.index) and not is_lasting(signal(name)):
                values = np.full(len(self.index), np.nan)
                rows = rows_where(asked)
                values[rows] = signal(name)(self.index.batch(rows))
                rankings.append(Ranking(name=name, rows=ranked(values, self.index.id_ranks, train)))
        return rankings

    def make(self, count: int) -> int:
        """Makes the first ``count`` places of the order; returns how many there are now."""
        self._order.make(count)
        rows = self._order.rows
        self._open.extend(not self._closed[row] for row in rows[len(self._open) :])
        return len(rows)

    def place(self, place: int) -> tuple[int, str]:
        """Row and reason of a place that was made."""
        return self._order.rows[place], self._order.reasons[place]

    def open_ids(self) -> Iterator[str]:
        """Ids of the texts that not enough people settled, in the queue's order."""
        place, is_front = self._first, True
        while True:
            place = self._open.find(1, place)
            if place < 0:
                place = len(self._open)
                if self.make(place + _AT_A_TIME) == place:
                    return
                continue
            if is_front:
                self._first, is_front = place, False
            yield self.index.id_of(self._order.rows[place])
            place += 1

    def open_anchor_ids(self) -> Iterator[str]:
        """Ids of the anchors' texts that not enough people settled, in the order that they have among themselves."""
        closed = np.frombuffer(self._closed, dtype=np.bool_)[self._anchors]
        return (self.index.id_of(row) for row in self._anchors[~closed].tolist())

    def unseen_captions(self, limit: int | None, *, anchors_first: bool = False) -> list[str]:
        """Ids of the captions that nobody judged, in the queue's order or anchors before, ``limit`` at most."""
        caption, kinds = EDITABLE_KINDS.index(CAPTION), self.index.kinds()
        rows = chain(self._anchors.tolist(), self._rows_after_anchors()) if anchors_first else self._rows()
        ids = (self.index.id_of(row) for row in rows if kinds[row] == caption)
        return list(islice((i for i in ids if not self.verdicts.is_seen(i)), limit))

    def _rows(self) -> Iterator[int]:
        """Rows in the queue's order, made as far as the caller goes."""
        place = 0
        while place < self.make(place + 1):
            yield self.place(place)[0]
            place += 1

    def _rows_after_anchors(self) -> Iterator[int]:
        splits = self.index.row_splits
        return (row for row in self._rows() if splits[row] != ANCHOR)

    # What people judged.

    def adopt(self, late: Iterable[tuple[str, str, str]]) -> None:
        """Takes all judgements into account, those too that came while the records were read."""
        for row in late:
            self.verdicts.note(*row)
        self._count(self.verdicts.settled())

    def note(self, annotation_id: str, verdict: str, refiner: str) -> None:
        """Takes one judgement into account."""
        self.verdicts.note(annotation_id, verdict, refiner)
        self._count([annotation_id])

    def take_in(self, annotation_id: str, rows: Iterable[tuple[str, str]]) -> None:
        """Takes all judgements of a text into account: verdict and refiner, oldest first."""
        for verdict, refiner in rows:
            self.verdicts.take_in(annotation_id, verdict, refiner)
        self._count([annotation_id])

    def _count(self, annotation_ids: Sequence[str]) -> None:
        for annotation_id, row in zip(annotation_ids, self.index.rows_of(annotation_ids).tolist(), strict=True):
            if row < 0 or annotation_id in self.gold_ids:
                continue
            if self.verdicts.is_settled(annotation_id) and self._shown[row]:
                self._settled.add(annotation_id)
            else:
                self._settled.discard(annotation_id)
            self._set_closed(row, self.verdicts.is_enough(annotation_id))

    def _set_closed(self, row: int, closed: bool) -> None:
        self._closed[row] = closed
        place = self._order.place_of(row)
        if place >= 0:
            self._open[place] = not closed
            if not closed:
                self._first = min(self._first, place)

    def close(self, annotation_id: str) -> None:
        """Takes a text that is gone out of the queue, until the next look at the records leaves it out."""
        self.gold_ids.discard(annotation_id)
        row = self.index.row_of(annotation_id)
        if row >= 0:
            self._set_closed(row, True)

    def is_open(self, annotation_id: str, refiner: str) -> bool:
        """Whether this person may be shown a text."""
        if self.verdicts.has_seen(annotation_id, refiner):
            return False
        return annotation_id in self.gold_ids or not self.verdicts.is_enough(annotation_id)

    def is_unsettled(self, annotation_id: str) -> bool:
        """Whether a text is in the order, or gold, and not enough people settled it."""
        if annotation_id in self.gold_ids:
            return True
        row = self.index.row_of(annotation_id)
        return row >= 0 and bool(self._shown[row]) and not self.verdicts.is_enough(annotation_id)

    @property
    def num_settled(self) -> int:
        """How many texts of the order anybody settled."""
        return len(self._settled)
