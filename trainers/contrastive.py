"""Trains encoders by contrast: large batches in little memory, exact resume, the best by validation.

One loop for all encoders. Which clips a step sees, what is hidden of them and what is dropped out are functions of the
seed and the step alone, so that a training that was stopped ends as one that was not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.core.types import MetricSink
from flywheel.models.encoder_files import load_encoder, save_encoder
from flywheel.models.encoders import Batch, Encoder, Masks, Modality

_STATE = "training.safetensors"
_LARGEST_GRADIENT = 1.0
#: The rate falls to this share of its peak.
_LOWEST_RATE = 0.1
#: Batches that a validation looks at, at most.
_VALIDATED = 8


@runtime_checkable
class Clips(Protocol):
    """Clips to learn from, read as they are needed; ``digest`` tells them and their texts from others."""

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, places: NDArray[np.int64]) -> Batch:
        """The clips at these places."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings:
    """How an encoder is trained.

    ``batch`` is how many clips are contrasted with each other, ``chunk`` how many are in memory at a time. AVVA: rate
    1e-4, decay 1e-4; VLSA: rate 1e-4, decay .01, batch 2048, 200,000 steps. Their schedules are not known.
    """

    steps: int = 400
    batch: int = 64
    chunk: int = 64
    rate: float = 2e-3
    decay: float = 0.01
    warm_up: int = 40
    validate_every: int = 50
    seed: int = 0


class OtherTraining(UserError):
    """A folder holds a training that can't go on: of other settings or clips, or damaged."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to: the step of the best encoder, its losses in validation, and the last step's."""

    step: int
    validation: dict[str, float]
    last: dict[str, float]


def gradients(encoder: Encoder, batch: Batch, *, chunk: int, generator: torch.Generator) -> dict[str, float]:
    """Add the gradient of the batch's total loss to the encoder's weights; returns its parts by name.

    Where the batch is larger than a chunk, vectors are made twice: first without a graph, for the gradient that each
    gets from the contrast with all others, then chunk by chunk with one, on which that gradient is put (gradient
    caching, Gao et al. 2021, arXiv 2101.06983). What is dropped out is the same both times. The result is the plain
    gradient.
    """
    masks, weights = encoder.masks(batch, generator), encoder.weights()
    counts = {name: max(1, int(present.sum())) for name, present in batch.present.items()}
    if len(batch) <= chunk:
        losses = encoder.contrast(encoder.vectors(batch), batch, generator) | _means(encoder, batch, masks, counts)
        _total(losses, weights).backward()  # type: ignore[no-untyped-call]
        return {name: float(loss.detach()) for name, loss in losses.items()}
    parts = [(start, min(start + chunk, len(batch))) for start in range(0, len(batch), chunk)]
    leaves, states = _leaves(encoder, batch, parts)
    losses = encoder.contrast(leaves, batch, generator)
    _total(losses, weights).backward()  # type: ignore[no-untyped-call]
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    after = _random_state(batch.text.device)
    for (start, end), state in zip(parts, states, strict=True):
        _set_random_state(state, batch.text.device)
        piece = batch.part(start, end)
        vectors = encoder.vectors(piece)
        means = _means(encoder, piece, {name: mask[start:end] for name, mask in masks.items()}, counts)
        terms = [(vectors[name] * leaf.grad[start:end]).sum() for name, leaf in leaves.items() if leaf.grad is not None]
        torch.stack([*terms, *([_total(means, weights)] if means else [])]).sum().backward()  # type: ignore[no-untyped-call]
        for name, mean in means.items():
            found[name] = found.get(name, 0.0) + float(mean.detach())
    _set_random_state(after, batch.text.device)
    return found


def _leaves(
    encoder: Encoder, batch: Batch, parts: list[tuple[int, int]]
) -> tuple[dict[Modality, Tensor], list[Tensor]]:
    """All vectors without a graph, as leaves, and the random state before each part of them."""
    states, pieces = [], []
    with torch.no_grad():
        for start, end in parts:
            states.append(_random_state(batch.text.device))
            pieces.append(encoder.vectors(batch.part(start, end)))
    return {name: torch.cat([piece[name] for piece in pieces]).requires_grad_() for name in pieces[0]}, states


def _means(encoder: Encoder, batch: Batch, masks: Masks, counts: Mapping[Modality, int]) -> dict[str, Tensor]:
    """The losses of each clip by itself, as a part's share of the whole batch's means."""
    return {name: loss.sum() / counts[_modality(name)] for name, loss in encoder.local(batch, masks).items()}


def _modality(name: str) -> Modality:
    return cast("Modality", name.rpartition("/")[2])


def _total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([loss * weights[name.partition("/")[0]] for name, loss in losses.items()]).sum()


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def train_encoder(
    encoder: Encoder,
    clips: Clips,
    held_out: Clips,
    folder: Path,
    settings: ContrastiveSettings,
    sink: MetricSink | None = None,
) -> Trained:
    """Train an encoder, and leave the one with the least total loss on ``held_out`` in ``folder``.

    The same call goes on where it was stopped, with the same result. Raises UserError for an encoder whose vectors see
    the other modalities and for fewer than two clips on either side, OtherTraining where the folder holds a training
    with other settings, clips or texts; FlywheelError where the loss is no number.
    """
    from trainers.leak import check_alone, unrelated

    for name, number in (("train", len(clips)), ("held-out", len(held_out))):
        if number < 2:
            raise UserError(f"encoder: needs two {name} clips or more to tell apart, got {number}. Add videos.")
    check_alone(encoder, unrelated(encoder, 2, torch.Generator().manual_seed(0)))
    run = _Run(encoder, clips, held_out, folder, settings)
    run.resume()
    with progress("encoder", settings.steps - run.step) as bar:
        while run.step < settings.steps:
            losses = run.advance()
            bar.advance()
            if sink is not None:
                sink.log({f"encoder/{name}": value for name, value in losses.items()}, run.step)
            if run.step % settings.validate_every == 0 or run.step == settings.steps:
                run.validate(sink)
                run.save()
    encoder.load_state_dict(load_encoder(folder).state_dict())
    encoder.eval()
    return Trained(step=run.best_step, validation=run.validation, last=run.last)


class _Run:
    """A training under way: its weights, its optimizer, and the best so far."""

    def __init__(
        self, encoder: Encoder, clips: Clips, held_out: Clips, folder: Path, settings: ContrastiveSettings
    ) -> None:
        self._encoder, self._clips, self._held_out = encoder, clips, held_out
        self._folder, self._settings = folder, settings
        self._device = next(encoder.parameters()).device
        self._optimizer = torch.optim.AdamW(
            encoder.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=settings.decay
        )
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self.step, self.best_step, self.best = 0, 0, math.inf
        self.last: dict[str, float] = {}
        self.validation: dict[str, float] = {}

    def advance(self) -> dict[str, float]:
        """Do one step; returns its losses. Raises FlywheelError where one is no number."""
        with _seeded(self._settings.seed, self.step) as generator:
            batch = self._clips.batch(self._places()).to(self._device)
            self._encoder.train()
            self._optimizer.zero_grad(set_to_none=True)
            self.last = gradients(self._encoder, batch, chunk=self._settings.chunk, generator=generator)
        if not all(map(math.isfinite, self.last.values())):
            raise FlywheelError(f"encoder: step {self.step}: the loss is no number ({self.last}). Lower index.rate.")
        torch.nn.utils.clip_grad_norm_(self._encoder.parameters(), _LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate * self._share_of_rate()
        self._optimizer.step()
        self.step += 1
        return self.last

    def _places(self) -> NDArray[np.int64]:
        """The step's clips: all in a random order, then all in another, so that each comes as often."""
        size, count = min(self._settings.batch, len(self._clips)), len(self._clips)
        epoch, place = divmod(self.step, count // size)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self._settings.seed, epoch]).permutation(count)
        return self._order[1][place * size : (place + 1) * size]

    def _share_of_rate(self) -> float:
        """A linear warm-up, then a half cosine down to a tenth."""
        warm_up, steps = self._settings.warm_up, self._settings.steps
        if self.step < warm_up:
            return (self.step + 1) / warm_up
        done = (self.step - warm_up) / max(1, steps - warm_up)
        return _LOWEST_RATE + (1 - _LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2

    @torch.no_grad()
    def validate(self, sink: MetricSink | None) -> None:
        """Measure the losses on held-out clips, with the same hidden tokens each time; keeps the best encoder."""
        self._encoder.eval()
        size = min(self._settings.batch, len(self._held_out))
        sums: dict[str, float] = {}
        number = min(_VALIDATED, len(self._held_out) // size)
        with _seeded(self._settings.seed, -1) as generator:
            for start in range(0, number * size, size):
                batch = self._held_out.batch(np.arange(start, start + size)).to(self._device)
                for name, loss in _losses(self._encoder, batch, self._settings.chunk, generator).items():
                    sums[name] = sums.get(name, 0.0) + loss / number
        weights = self._encoder.weights()
        total = sum(value * weights[name.partition("/")[0]] for name, value in sums.items())
        if sink is not None:
            sink.log({f"encoder/validation/{name}": value for name, value in sums.items()}, self.step)
        if total < self.best:
            self.best, self.best_step, self.validation = total, self.step, sums
            save_encoder(self._encoder, self._folder, step=self.step, validation=sums)

    def save(self) -> None:
        """Keep all that decides on the rest of the training, in one file that is there whole or not."""
        tensors = {f"weight/{name}": value for name, value in self._encoder.state_dict().items()}
        for name, weight in self._encoder.named_parameters():
            state = self._optimizer.state[weight]
            if state:
                tensors |= {f"{key}/{name}": state[key] for key in ("exp_avg", "exp_avg_sq")}
        facts = {"step": self.step, "best_step": self.best_step, "best": self.best, "last": self.last}
        said = json.dumps({**facts, "validation": self.validation, "settings": self._identity()})
        with written_whole(self._folder / _STATE) as place:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, place, metadata={"state": said})

    def resume(self) -> None:
        """Go on from what :meth:`save` kept. Raises OtherTraining where that can't go on."""
        file = self._folder / _STATE
        if not file.exists():
            return
        try:
            with safe_open(file, "pt") as kept:
                state = json.loads(kept.metadata()["state"])
                tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise OtherTraining(f"{file}: is damaged ({type(error).__name__}). Delete it to train anew.") from error
        if "digests" not in state["settings"]:
            # Of a version that did not say what it learned from.
            return
        if state["settings"] != self._identity():
            raise OtherTraining(
                f"{self._folder}: holds a training with other settings, clips or texts. Delete it, or keep those."
            )
        self._encoder.load_state_dict({k.partition("/")[2]: v for k, v in tensors.items() if k.startswith("weight/")})
        for name, weight in self._encoder.named_parameters():
            if f"exp_avg/{name}" in tensors:
                moments = {key: tensors[f"{key}/{name}"].to(weight.device) for key in ("exp_avg", "exp_avg_sq")}
                self._optimizer.state[weight] = {"step": torch.tensor(float(state["step"])), **moments}
        self.step, self.best_step, self.best = state["step"], state["best_step"], state["best"]
        self.last, self.validation = state["last"], state["validation"]

    def _identity(self) -> dict[str, object]:
        """What must be the same for a training to go on; memory may differ."""
        name, sizes = self._encoder.built_from
        settings = {key: value for key, value in asdict(self._settings).items() if key != "chunk"}
        clips, held_out = self._clips, self._held_out
        counts, digests = [len(clips), len(held_out)], [clips.digest, held_out.digest]
        return {"encoder": name, "sizes": sizes, "clips": counts, "digests": digests, **settings}


@torch.no_grad()
def _losses(encoder: Encoder, batch: Batch, chunk: int, generator: torch.Generator) -> dict[str, float]:
    """The losses of a batch by name, without a gradient, chunk by chunk."""
    masks: Masks = encoder.masks(batch, generator)
    vectors: dict[Modality, list[Tensor]] = {}
    sums: dict[str, float] = {}
    for start in range(0, len(batch), chunk):
        part = batch.part(start, start + chunk)
        for modality, rows in encoder.vectors(part).items():
            vectors.setdefault(modality, []).append(rows)
        local = encoder.local(part, {name: mask[start : start + chunk] for name, mask in masks.items()})
        for name, loss in local.items():
            sums[name] = sums.get(name, 0.0) + float(loss.sum()) / max(1, int(batch.present[_modality(name)].sum()))
    whole = {modality: torch.cat(rows) for modality, rows in vectors.items()}
    return sums | {name: float(loss) for name, loss in encoder.contrast(whole, batch, generator).items()}


@contextmanager
def _seeded(seed: int, step: int) -> Iterator[torch.Generator]:
    """Random numbers of a step; those of the process go on afterwards as if nothing had been drawn."""
    number = int(np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint64)[0] >> 1)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(number)
        yield torch.Generator().manual_seed(number)
