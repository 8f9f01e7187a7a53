"""Examples to batches: hints dropped at random, lengths bucketed, everything a pure function of seed and epoch.

That purity is what makes a resumed run see exactly the batches that an uninterrupted one sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Dataset, Sampler

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.reading import Reading, Unreadable
from flywheel.core.types import Example
from flywheel.models.features import PIXELS, KeptFeatures
from flywheel.models.inputs import IGNORED, ClipInput, InputBuilder, InputRow
from flywheel.models.prompt import Evidence, Hint, Prompt
from trainers.examples import columns_of

#: Batches of a block within which rows are sorted by length.
_MEGABATCH = 32


def filler(row: int) -> list[int]:
    """Rows for who has none of its own: they are let through a model, and nothing of them is learned."""
    return [-1 - row]


@dataclass
class Clock:
    """The epoch, as sampler and dataset share it."""

    epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The data of a training, without where it comes from.

    ``examples`` is any sequence; a table (:class:`trainers.ExampleTable`) takes a few bytes of memory per row.
    ``input`` gives a clip's frames and sound by its id, or raises MediaError: such clips are left out, up to a share of
    ``most_unreadable``. ``name`` gives what errors call a clip. ``dropout`` says how often (in [0, 1]) a hint is held
    back. ``frames_alone`` says that inputs have no sound: then a clip whose pixels are kept is not read again.

    A hint equal to the example's own text is always held back: with the answer in its prompt a model learns to copy.
    """

    examples: Sequence[Example]
    input: Callable[[str], ClipInput]
    prompt: Prompt
    dropout: Mapping[Hint, float]
    seed: int
    most_unreadable: float = 0.5
    frames_alone: bool = False
    name: Callable[[str], str] = str

    def prompt_text(self, index: int, epoch: int) -> str:
        """The prompt of a row in an epoch: a pure function of the seed, the epoch and the row."""
        return self.prompt_of(self.examples[index], index, epoch)

    def prompt_of(self, example: Example, index: int, epoch: int, *, also: str | None = None) -> str:
        """:meth:`prompt_text` of a row that was read already: its own question, where it has one; ``also`` is another
        answer that it must not hold."""
        if example.question:
            return example.question
        rng = np.random.default_rng([self.seed, epoch, index])
        shown: dict[str, str | None] = {}
        for hint, text in example.prompt_texts.items():
            hidden = rng.random() < self.dropout.get(hint, 0.0)  # type: ignore[call-overload]
            shown[hint] = None if hidden or text in (example.text, also) else text
        # The same words with times give the same away: held back together.
        if shown.get("transcript") is None:
            shown["timed_transcript"] = None
        return self.prompt.render(Evidence(**shown))


class Rows(Dataset[int]):
    """The numbers of rows; the collator does the work, since it is there that clips become one batch."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


class BucketSampler(Sampler[int]):
    """Shuffled rows, those of like length together: sorted within blocks of 32 batches, the batches then shuffled.

    An epoch draws one row of each clip, by the rows' shares.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        lengths: Sequence[int] | Int[np.ndarray, " N"],
        batch_size: int,
        seed: int,
        clock: Clock,
    ) -> None:
        """``lengths`` are the rows' numbers of tokens; ``clock`` is told the epoch."""
        columns = columns_of(examples)
        self._clip_N, self._share_N, self._count = columns.clip_N, columns.share_N, columns.num_clips
        self._length_N, self._batch_size, self._seed, self._clock = np.asarray(lengths), batch_size, seed, clock
        self._ended = False

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self._clock.epoch = epoch

    def end(self) -> None:
        """Give no more rows, while the length of an epoch stays: for a training that has all its steps behind it."""
        self._ended = True

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        if self._ended:
            return
        rng = np.random.default_rng([self._seed, 31, self._clock.epoch])
        order, size = rng.permutation(self._drawn()), self._batch_size
        for start in range(0, len(order), _MEGABATCH * size):
            # In place: lists of batches would take ten times the memory of the rows' numbers.
            block = order[start : start + _MEGABATCH * size]
            block[:] = block[np.argsort(self._length_N[block], kind="stable")]
        # The short batch stays last, or it would shift every batch after it.
        num_whole = len(order) // size
        for index in rng.permutation(num_whole):
            yield from order[index * size : (index + 1) * size].tolist()
        yield from order[num_whole * size :].tolist()

    def _drawn(self) -> Int[np.ndarray, " clips"]:
        """A row of each clip, in the order of rows."""
        if self._count == len(self._length_N):
            return np.arange(self._count)
        # An exponential race: of waiting times with rates p the first is row i's with chance p_i / sum(p).
        rng = np.random.default_rng([self._seed, 37, self._clock.epoch])
        times = rng.exponential(size=len(self._share_N)) / self._share_N
        order = np.lexsort((times, self._clip_N))
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.diff(self._clip_N[order]) > 0
        return np.sort(order[first])


class Collator:
    """Rows to a batch of B: the model's inputs and ``labels``, with ``row``, ``group`` and ``row_weight`` beside, (B,).

    ``groups`` numbers the groups (-1 for people's texts). Without a clock it is always epoch 0. Rows whose clips can't
    be read are left out, and noted in ``unreadable`` (clip -> why); ``what`` names the data in the error where they are
    most. With ``features`` the clips' pixels are in the batch by themselves, under ``PIXELS``. A :func:`filler` becomes
    a batch without labels; with ``shares``, where batches are shares of a step, so does one of which no clip can be
    read.
    """

    def __init__(
        self,
        data: TrainingSet,
        builder: InputBuilder,
        groups: Mapping[str, int],
        clock: Clock | None,
        what: str = "training",
        *,
        shares: bool = False,
        features: KeptFeatures | None = None,
    ) -> None:
        self._features = features
        self._data, self._builder, self._groups, self._clock = data, builder, groups, clock
        self._shares = shares
        self.reading = Reading(what, data.most_unreadable)
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._data.examples)

    def __call__(self, indices: Sequence[int]) -> dict[str, Any]:
        # Evaluation has no clock: it always sees the hints of epoch 0, so that its figures can be compared.
        epoch = self._clock.epoch if self._clock is not None else 0
        fills = indices[0] < 0
        found, instead = self._readable([-1 - index for index in indices] if fills else indices, epoch)
        rows, pixels = [inputs for _, _, inputs in found], None
        if self._features is not None:
            rows, pixels = self._features.without_pixels([(example.clip_id, inputs) for _, example, inputs in found])
        batch = self._builder.of_thread().batch(rows)
        if pixels is not None:
            batch[PIXELS] = pixels
        batch["row"] = torch.tensor([row for row, _, _ in found])
        batch["group"] = torch.tensor([self._groups[example.group] for _, example, _ in found])
        batch["row_weight"] = torch.tensor([example.weight for _, example, _ in found], dtype=torch.float32)
        if fills or (instead and self._shares):
            batch["labels"].fill_(IGNORED)
        return batch

    def _readable(self, rows: Sequence[int], epoch: int) -> tuple[list[tuple[int, Example, InputRow]], bool]:
        """Those of these rows whose clips can be read; where none can, the next after them that can, and True.

        Raises Unreadable where most can't.
        """
        found = [text for row in rows for text in self._read(row, epoch)]
        self.reading.check()
        for step in range(1, len(self) + 1):
            if found:
                return found, step > 1
            # A step without a row would be none.
            found = self._read((rows[-1] + step) % len(self), epoch)
            self.reading.check()
        if not found:
            self.reading.check(ended=True)
            raise Unreadable("training: no clip can be read. Is the disk mounted? Then run the same command.")
        return found, True

    def _read(self, row: int, epoch: int) -> list[tuple[int, Example, InputRow]]:
        """The texts of a row; none where its clip can't be read."""
        try:
            with one_item("can't be made a model's input"):
                inputs = self._inputs(row, epoch)
        except MediaError as error:
            clip_id = self._clip_id(row)
            self.reading.bad(self._data.name(clip_id), str(error))
            self.unreadable.setdefault(clip_id, sys.intern(str(error)))
            return []
        self.reading.good()
        return inputs

    def _inputs(self, row: int, epoch: int) -> list[tuple[int, Example, InputRow]]:
        example = self._data.examples[row]
        (inputs,) = self._input_rows(self._data, [example], self._data.prompt_of(example, row, epoch))
        return [(row, example, inputs)]

    def _clip_id(self, row: int) -> str:
        return self._data.examples[row].clip_id

    def _input_rows(self, data: TrainingSet, texts: Sequence[Example], prompt: str) -> list[InputRow]:
        """Texts of one clip behind one prompt; the clip is read once, and not at all where its pixels are kept."""
        builder = self._builder.of_thread()
        if data.frames_alone:
            kept = [builder.kept_row(text.clip_id, prompt, text.text, text.earlier) for text in texts]
            if len(rows := [row for row in kept if row is not None]) == len(texts):
                return rows
        clip = data.input(texts[0].clip_id)
        return [builder.row(clip, prompt, text.text, text.earlier) for text in texts]

    def state(self) -> dict[str, Any]:
        """What could be read so far and what could not, for a checkpoint."""
        return {"unreadable": dict(self.unreadable), **self.reading.state()}

    def take(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's :meth:`state`."""
        self.unreadable = dict(state["unreadable"])
        self.reading.take(state)
