"""Shared parts of the bundled models' trainings: examples made by many processes, endless batches, rate and clock.

They run on the GPU where there is one. A training ends by the clock, so that it fits a machine's hour.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

#: What is learned from and what is held out; the playground's corpora use seeds far below and far above.
FIRST_SEED, HELD_OUT_SEED = 60_000_000, 61_000_000
T = TypeVar("T")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ENGLISH = """
A person walks along the street while music plays. Two people are talking in a room. Someone is cooking in a kitchen and
explains what to do next. The dog barks and a bird sings. There is no speech, only the sound of wind and water. A woman
holds a phone near the window. Children play with a ball. A car turns at the corner and stops. What happens at the end?
"""


def made(function: Callable[[int], T], seeds: Iterable[int], workers: int | None = None) -> list[T]:
    """The function's results for these seeds, in their order, by a process for each core."""
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, seeds, chunksize=64))


def draws(number: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Indices of batches without end, each row once before any comes again."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(number)
        for start in range(0, number - batch + 1, batch):
            yield order[start : start + batch]


def padded(rows: Sequence[tuple[list[int], int]], pad: int) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels`` (B, S) of rows: ids, length of the prompt."""
    longest = max(len(ids) for ids, _ in rows)
    ids = [ids + [pad] * (longest - len(ids)) for ids, _ in rows]
    labels = [[-100] * prompt + ids[prompt:] + [-100] * (longest - len(ids)) for ids, prompt in rows]
    mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]
    return {name: torch.tensor(v) for name, v in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


class Clock:
    """Steps until the time is over: warm-up, then a cosine down to a tenth of the peak rate."""

    def __init__(self, optimizer: torch.optim.Optimizer, peak: float, minutes: float, warm_up: int) -> None:
        self.optimizer, self.peak, self.minutes, self.warm_up = optimizer, peak, minutes, warm_up
        self.started, self.steps, self.losses = time.monotonic(), 0, list[float]()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def __iter__(self) -> Iterator[int]:
        while (done := self.seconds / (60 * self.minutes)) < 1:
            for group in self.optimizer.param_groups:
                rise = min(1.0, (self.steps + 1) / self.warm_up)
                group["lr"] = self.peak * rise * (0.55 + 0.45 * math.cos(math.pi * done))
            yield self.steps

    def step(self, loss: torch.Tensor) -> None:
        """Go one step against the loss; says how it goes now and then."""
        loss.backward()
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        # Asking for each loss would wait for the GPU.
        if self.steps % 20 == 0:
            self.losses.append(loss.item())
        if self.steps % 200 == 0 or (self.steps % 20 == 0 and self.seconds / self.steps > 0.2):
            print(f"step {self.steps} loss {np.mean(self.losses[-10:]):.4f} {self.seconds:.0f} s", flush=True)


def adamw(weights: Iterable[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        list(weights), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True if DEVICE == "cuda" else None
    )


def target_loss(model: torch.nn.Module, head: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the targets; logits of the prompts are not made."""
    wanted = batch["labels"][:, 1:]
    places = wanted != -100
    at_targets = torch.cat([places, places.new_zeros(len(places), 1)], dim=1)
    # The head sees the hidden states (B, S, d) before targets alone, as one row.
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][at_targets][None],))
    try:
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits[0]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), wanted[places])


def record(folder: Path, clock: Clock, **facts: Any) -> None:
    """Write ``training_record.json``: how long, how well, and what was never seen."""
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine()
    training = {
        "steps": clock.steps,
        "peak_lr": clock.peak,
        "wall_s": round(60 * clock.minutes),
        "final_loss": float(np.mean(clock.losses[-10:])),
        "torch": torch.__version__,
        "device": device,
        **facts,
    }
    (folder / "training_record.json").write_text(json.dumps(training, indent=2) + "\n")
    print(json.dumps(training), flush=True)
