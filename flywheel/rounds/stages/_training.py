"""What both trainings share: their data as trainers want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.core.progress import say
from flywheel.core.types import Example
from flywheel.rounds.context import RoundContext
from flywheel.store.writing import reject

if TYPE_CHECKING:
    import trainers

_RANDOM_STATE = "random_state.npy"
#: Files that are named of those that can't be read.
_NAMED = 5


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
        examples=examples,
        input=context.input,
        prompt=context.prompt,
        dropout=rates,
        seed=plan.seed,
        most_unreadable=context.config.corpus.most_unreadable,
        frames_alone=context.inputs_of(context.prompt) == {"frames"},
        name=lambda clip_id: context.clips[clip_id].uri,
    )


def note_unreadable(context: RoundContext, round: int, stage: str, unreadable: Mapping[str, str]) -> list[str]:
    """Put on record, and say, which clips a training left out; returns the first files with the reason."""
    workspace = context.workspace
    rows = ((context.clips[clip_id], why) for clip_id, why in unreadable.items())
    workspace.add_rejects([reject(round, stage, clip.uri, clip.id, why) for clip, why in rows], round)
    first = [f"{context.clips[clip_id].uri}: {why}" for clip_id, why in islice(unreadable.items(), _NAMED)]
    if first:
        more = ", …" if len(unreadable) > len(first) else ""
        say(f"{stage}: {len(unreadable)} clips were left out, since they can't be read: {', '.join(first)}{more}")
    return first
