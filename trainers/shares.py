"""A step's rows shared out: over the ranks, and of each rank over the parts whose gradients it adds up.

All ranks and parts together see the rows that one process would see at once, so neither decides on what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from trainers.data import filler
from trainers.pairs import RowSampler


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of ``ranks`` ranks this ``rank``, each of which takes a step in ``parts`` parts."""

    rank: int = 0
    ranks: int = 1
    parts: int = 1

    def of(self, rows: Sequence[int]) -> list[list[int]]:
        """This rank's rows of a step, part by part; a filler where there are too few rows for all."""
        pieces = np.array_split(np.asarray(rows), self.ranks * self.parts)[self.rank :: self.ranks]
        return [piece.tolist() if len(piece) else filler(rows[-1]) for piece in pieces]


class ShareSampler(Sampler[list[int]]):
    """This rank's parts of each step of ``batch_size`` rows, as the sampler of rows gives them."""

    def __init__(self, rows: RowSampler, batch_size: int, shares: Shares) -> None:
        self._rows, self._batch_size, self._shares = rows, batch_size, shares

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size) * self._shares.parts

    def __iter__(self) -> Iterator[list[int]]:
        stream = iter(self._rows)
        while rows := list(islice(stream, self._batch_size)):
            yield from self._shares.of(rows)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self._rows.set_epoch(epoch)


class ShareLoader(DataLoader[Any]):
    """A loader of rows alone, part by part; transformers tells it the epoch."""

    def __init__(self, dataset: Any, sampler: ShareSampler) -> None:
        super().__init__(dataset, batch_sampler=sampler, collate_fn=list)
        self._shares = sampler

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self._shares.set_epoch(epoch)
