"""Examples to batches: hints dropped at random, lengths bucketed, everything a pure function of seed and epoch.

That purity is what makes a resumed run see exactly the batches that an uninterrupted one sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from flywheel.core.types import Example
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.prompt import Evidence, Hint, Prompt

_MEGABATCH = 32


@dataclass
class Clock:
    """The epoch, as sampler and dataset share it."""

    epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a trainer needs of its data, without knowing where it comes from.

    ``input`` gives a clip's frames; ``dropout`` says how often a hint is held back. A hint equal to the example's own text
    is always held back: with the answer in its prompt a model learns to copy.
    """

    examples: Sequence[Example]
    input: Callable[[str], ClipInput]
    prompt: Prompt
    dropout: Mapping[Hint, float]
    seed: int

    def prompt_text(self, index: int, epoch: int) -> str:
        example = self.examples[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        shown: dict[str, str | None] = {}
        for hint, text in example.prompt_texts.items():
            hidden = rng.random() < self.dropout.get(hint, 0.0)  # type: ignore[call-overload]
            shown[hint] = None if hidden or text == example.text else text
        # The same words with times say the same: held back together.
        if shown.get("transcript") is None:
            shown["timed_transcript"] = None
        return self.prompt.render(Evidence(**shown))


class _Rows(Dataset[int]):
    """Indices; the collator does the work, since it is there that clips become one batch."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


class BucketSampler(Sampler[int]):
    """Shuffled, with rows of like length together: sorted within blocks of 32 batches, the batches then shuffled.

    An epoch draws one row of each clip by the rows' shares."""

    def __init__(
        self, examples: Sequence[Example], lengths: Sequence[int], batch_size: int, seed: int, clock: Clock
    ) -> None:
        self._lengths, self._batch_size, self._seed, self._clock = np.asarray(lengths), batch_size, seed, clock
        self._clip = np.unique([e.clip_id for e in examples], return_inverse=True)[1]
        self._share = np.array([e.share for e in examples])
        self._count = int(self._clip.max()) + 1 if len(examples) else 0

    def set_epoch(self, epoch: int) -> None:
        self._clock.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def _drawn(self) -> NDArray[np.int64]:
        """A row of each clip, in the order of rows."""
        if self._count == len(self._lengths):
            return np.arange(self._count)
        # An exponential race: of waiting times with rates p the first is row i's with chance p_i / sum(p).
        times = (
            np.random.default_rng([self._seed, 37, self._clock.epoch]).exponential(size=len(self._share)) / self._share
        )
        order = np.lexsort((times, self._clip))
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.diff(self._clip[order]) > 0
        return np.sort(order[first])

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, 31, self._clock.epoch])
        order = rng.permutation(self._drawn())
        block = _MEGABATCH * self._batch_size
        batches: list[np.ndarray[Any, Any]] = []
        for start in range(0, len(order), block):
            part = order[start : start + block]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches.extend(part[i : i + self._batch_size] for i in range(0, len(part), self._batch_size))
        # The short batch stays last, or it would shift every batch after it.
        last = [batches.pop()] if batches and len(batches[-1]) < self._batch_size else []
        for index in [*rng.permutation(len(batches)), *(len(batches) + i for i in range(len(last)))]:
            yield from (int(row) for row in [*batches, *last][index])


class Collator:
    """Indices -> tensors, with the rows' indices, groups and weights beside them."""

    def __init__(
        self, data: TrainingSet, builder: InputBuilder, groups: Mapping[str, int], clock: Clock | None
    ) -> None:
        self._data, self._builder, self._groups, self._clock = data, builder, groups, clock

    def __len__(self) -> int:
        return len(self._data.examples)

    def __call__(self, indices: Sequence[int]) -> dict[str, Any]:
        # Evaluation has no clock: it always sees the hints of epoch 0, so that its figures can be compared.
        epoch = self._clock.epoch if self._clock is not None else 0
        examples = [self._data.examples[i] for i in indices]
        batch = self._builder.build(
            [self._data.input(e.clip_id) for e in examples],
            [self._data.prompt_text(i, epoch) for i in indices],
            [e.text for e in examples],
        )
        batch["row"] = torch.tensor(list(indices))
        batch["group"] = torch.tensor([self._groups[e.group] for e in examples])
        batch["row_weight"] = torch.tensor([e.weight for e in examples], dtype=torch.float32)
        return batch
