"""The order in which people see texts: the rule, over row numbers alone.

The order spends people where they help, and stays honest. Of training clips a share comes at random, the others in
turns by the signals of ``review.order`` (:mod:`human_refine.signals`). Anchor clips come at random alone, spread evenly
among them, since the gate stands on them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.types import content_id
from human_refine.ids import packed, ranks

Rows = NDArray[np.int32]
_AT_A_TIME = 4096


def order_keys(ids: Iterable[str]) -> NDArray[np.uint64]:
    """The first 64 bits of ``content_id("queue", id)``: random, and the same for everybody who asks."""
    keys = b"".join(_order_key(i) for i in ids)
    return np.frombuffer(keys, dtype=">u8").astype(np.uint64)


def _order_key(annotation_id: str) -> bytes:
    if annotation_id.isascii() and annotation_id.isalnum():
        # What content_id does, without its JSON, which would take most of the time.
        return hashlib.sha256(f'["queue", "{annotation_id}"]'.encode()).digest()[:8]
    return bytes.fromhex(content_id("queue", annotation_id)[:16])


def hash_fraction(*parts: object) -> float:
    """A number in [0, 1) by a hash: random, and the same whenever it is asked for."""
    return int(content_id(*parts)[:8], 16) / 16**8


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Rows of training clips by a signal's value, highest first."""

    name: str
    rows: Rows


def rows_where(mask: NDArray[np.bool_]) -> Rows:
    """Numbers of the rows for which the mask is true."""
    return np.flatnonzero(mask).astype(np.int32)


def ranked(values: NDArray[np.float64], id_ranks: NDArray[np.int32], among: NDArray[np.bool_]) -> Rows:
    """Rows of a mask that have a value (no NaN), highest first, equal ones by the ranks of their ids."""
    rows: Rows = rows_where(among & ~np.isnan(values))
    rows = rows[np.argsort(id_ranks[rows], kind="stable")]
    return np.asarray(rows[np.argsort(-values[rows], kind="stable")], dtype=np.int32)


def in_order(
    ids: pl.Series, splits: Sequence[str | None], random_share: float, signals: Mapping[str, NDArray[np.float64]]
) -> list[tuple[str, str]]:
    """Id and reason of all texts of train and anchor clips, in the order in which people should see them.

    ``splits`` and each signal's values are by text; NaN is no value.
    """
    by_key = np.argsort(order_keys(ids.to_list()), kind="stable")
    ids, split = ids.gather(by_key), np.array(splits, dtype=object)[by_key]
    by_id = ranks(packed(ids))
    train = split == "train"
    order = Order(
        train=rows_where(train),
        anchors=rows_where(split == "anchor"),
        rankings=[Ranking(name=name, rows=ranked(values[by_key], by_id, train)) for name, values in signals.items()],
        random_share=random_share,
        num_rows=len(ids),
    )
    order.make(order.num_texts)
    return [(ids[row], reason) for row, reason in zip(order.rows, order.reasons, strict=True)]


class Order:
    """The rows of texts in the order people see them, made only as far as somebody asks.

    ``train`` and ``anchors`` are rows in the order of their keys, all below ``num_rows``.
    """

    def __init__(
        self, *, train: Rows, anchors: Rows, rankings: Sequence[Ranking], random_share: float, num_rows: int
    ) -> None:
        self.num_texts = len(train) + len(anchors)
        #: Row and reason of each place: ``random``, ``anchor``, or the name of a signal.
        self.rows = array("i")
        self.reasons: list[str] = []
        #: Place of each row; -1 where it is not made yet, or not in the order.
        self._places = array("i", [-1]) * num_rows
        mixed = _mixed(train, rankings, random_share, num_rows)
        self._rest = _evenly(_walk(anchors), len(anchors), mixed, len(train))

    def make(self, count: int) -> None:
        """Makes the first ``count`` places, or all where there are fewer."""
        while len(self.rows) < count and (entry := next(self._rest, None)) is not None:
            row, reason = entry
            self._places[row] = len(self.rows)
            self.rows.append(row)
            self.reasons.append(reason)

    def place_of(self, row: int) -> int:
        """The place of a row; -1 where it is not made yet, or not in the order."""
        return self._places[row]


def _mixed(train: Rows, rankings: Sequence[Ranking], random_share: float, num_rows: int) -> Iterator[tuple[int, str]]:
    """Training rows: ``random_share`` by their keys, the others from the rankings in turns."""
    taken = bytearray(num_rows)
    drawn = _walk(train)
    ranked = [(ranking.name, _walk(ranking.rows)) for ranking in rankings]
    owed, turn = 0.0, 0
    for _ in range(len(train)):
        owed += random_share
        row, reason = None, "random"
        if owed < 1:
            for _ in ranked:
                name, rows = ranked[turn % len(ranked)]
                turn += 1
                row = next((r for r in rows if not taken[r]), None)
                if row is not None:
                    reason = name
                    break
        else:
            owed -= 1
        if row is None:
            row = next(r for r in drawn if not taken[r])
        taken[row] = 1
        yield row, reason


def _evenly(
    anchors: Iterator[int], num_anchors: int, mixed: Iterator[tuple[int, str]], num_mixed: int
) -> Iterator[tuple[int, str]]:
    """Both in their order, the anchors spread evenly over the whole."""
    share = num_anchors / max(1, num_anchors + num_mixed)
    taken = given = 0
    while taken < num_anchors or given < num_mixed:
        if taken < num_anchors and (given == num_mixed or taken < share * (taken + given + 1)):
            yield next(anchors), "anchor"
            taken += 1
        else:
            yield next(mixed)
            given += 1


def _walk(rows: Rows) -> Iterator[int]:
    """The rows as Python integers, a few thousand at a time."""
    for start in range(0, len(rows), _AT_A_TIME):
        yield from rows[start : start + _AT_A_TIME].tolist()
