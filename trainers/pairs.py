"""Pairs of texts of a clip, a better and a worse one, as batches: beside texts to learn, or alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from flywheel.core.types import HUMAN, Example
from flywheel.models.features import KeptFeatures
from flywheel.models.inputs import IGNORED, InputBuilder, InputRow
from trainers.data import BucketSampler, Clock, Collator, TrainingSet
from trainers.examples import text_lengths
from trainers.pair_loss import CHOSEN, FILLER, LEARNED, REJECTED


class PairCollator(Collator):
    """Rows to a batch: those of ``data`` are texts to learn; each behind them is a pair, and becomes two texts.

    ``pairs`` holds each pair's better text and behind it the worse one. ``part``, (B,), says what a text of the batch
    is (:mod:`trainers.pair_loss`). A pair whose clip can't be read is left out whole.
    """

    def __init__(
        self,
        data: TrainingSet,
        pairs: TrainingSet,
        builder: InputBuilder,
        clock: Clock,
        what: str,
        *,
        shares: bool,
        features: KeptFeatures | None = None,
    ) -> None:
        super().__init__(data, builder, {HUMAN: -1}, clock, what, shares=shares, features=features)
        self._pairs, self._num_texts = pairs, len(data.examples)

    def __len__(self) -> int:
        return self._num_texts + len(self._pairs.examples) // 2

    def __call__(self, indices: Sequence[int]) -> dict[str, Any]:
        batch = super().__call__(indices)
        nothing = bool((batch["labels"] == IGNORED).all())
        batch["part"] = torch.tensor(_parts(batch["row"].tolist(), self._num_texts, nothing))
        return batch

    def _inputs(self, row: int, epoch: int) -> list[tuple[int, Example, InputRow]]:
        if row < self._num_texts:
            return super()._inputs(row, epoch)
        at = 2 * (row - self._num_texts)
        chosen, rejected = self._pairs.examples[at], self._pairs.examples[at + 1]
        # One prompt for both: what holds either of them would say which is meant.
        prompt = self._pairs.prompt_of(chosen, row, epoch, also=rejected.text)
        texts = (chosen, rejected)
        inputs = self._input_rows(self._pairs, texts, prompt)
        return [(row, text, of_text) for text, of_text in zip(texts, inputs, strict=True)]

    def _clip_id(self, row: int) -> str:
        if row < self._num_texts:
            return super()._clip_id(row)
        return self._pairs.examples[2 * (row - self._num_texts)].clip_id


def _parts(rows: Sequence[int], num_texts: int, nothing: bool) -> list[int]:
    """What each text of a batch is; ``nothing`` is learned of any."""
    if nothing:
        return [FILLER] * len(rows)
    parts: list[int] = []
    for row in rows:
        is_second = bool(parts) and parts[-1] == CHOSEN
        parts.append(LEARNED if row < num_texts else REJECTED if is_second else CHOSEN)
    return parts


class PairSampler(Sampler[int]):
    """Shuffled rows of texts and of pairs; where there are both, one by turns, and the fewer ones again in an epoch.

    An epoch draws one text and one pair of each clip, as :class:`trainers.data.BucketSampler` does.
    """

    def __init__(self, data: TrainingSet, pairs: TrainingSet, builder: InputBuilder, size: int, seed: int) -> None:
        """``size`` is the number of texts, and of pairs, of a step."""
        self.clock = Clock()
        lengths = text_lengths(data.examples, builder.tokenizer)
        self._texts = BucketSampler(data.examples, lengths, size, seed, self.clock)
        longest = text_lengths(pairs.examples, builder.tokenizer).reshape(-1, 2).max(1)
        self._pairs = BucketSampler(pairs.examples[::2], longest, size, seed, self.clock)
        self._num_texts = len(data.examples)

    @property
    def by_turns(self) -> bool:
        """Whether there are texts and pairs."""
        return bool(len(self._texts) and len(self._pairs))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self._texts.set_epoch(epoch)
        self._pairs.set_epoch(epoch)

    def end(self) -> None:
        """Give no more rows, while the length of an epoch stays."""
        self._texts.end()
        self._pairs.end()

    def __len__(self) -> int:
        return 2 * max(len(self._texts), len(self._pairs)) if self.by_turns else len(self._texts) + len(self._pairs)

    def __iter__(self) -> Iterator[int]:
        texts = np.fromiter(self._texts, dtype=np.int64)
        pairs = self._num_texts + np.fromiter(self._pairs, dtype=np.int64)
        if not (len(texts) and len(pairs)):
            yield from (*texts.tolist(), *pairs.tolist())
            return
        count = max(len(texts), len(pairs))
        for text, pair in islice(zip(np.resize(texts, count), np.resize(pairs, count), strict=True), count):
            yield int(text)
            yield int(pair)


#: What draws the rows of a training.
RowSampler = BucketSampler | PairSampler
