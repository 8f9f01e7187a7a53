"""What both trainings share: their data as trainers want it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.core.types import Example
from flywheel.rounds.context import RoundContext

if TYPE_CHECKING:
    import trainers

_RANDOM_STATE = "random_state.npy"


def keep_random_state(out: Path) -> None:
    """Keep torch's random state beside a trained model: the next training begins with it."""
    import torch

    with open(out / _RANDOM_STATE, "wb") as file:
        np.save(file, torch.get_rng_state().numpy(), allow_pickle=False)


def take_random_state(model: Path, seed: int) -> None:
    """Let torch draw on from where the model's training ended, whatever this process did since; else from a seed.

    An adapter begins with random weights, so a round that was killed between its trainings would learn another one.
    """
    import torch

    file = model / _RANDOM_STATE
    if file.exists():
        torch.set_rng_state(torch.from_numpy(np.load(file, allow_pickle=False)))
    else:
        torch.manual_seed(seed)


def training_set(context: RoundContext, examples: Sequence[Example]) -> trainers.TrainingSet:
    """The examples with their media, prompt and the shares at which hints are held back."""
    import trainers

    plan = context.config.pretrain
    rates: dict[Any, float] = {"transcript": plan.transcript_dropout, "previous": plan.previous_dropout}
    return trainers.TrainingSet(
        examples=examples, input=context.input, prompt=context.prompt, dropout=rates, seed=plan.seed
    )
