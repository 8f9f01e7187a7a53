"""A training of a workspace's clips on any devices, by the way that a round's stages take; and what it gave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from flywheel.core.types import HUMAN, Clip, Example
from flywheel.playground.scenes import sample_scene
from flywheel.rounds.context import RoundContext
from flywheel.rounds.stages import _devices
from flywheel.rounds.stages._devices import Training
from flywheel.store import Workspace

#: Twenty steps; batches of five of six clips leave one clip to every other step, so of two ranks one has none.
SETTINGS = (
    "pretrain.num_steps=20",
    "pretrain.batch_size=5",
    "pretrain.learning_rate=1e-4",
    "pretrain.save_every=6",
    "pretrain.log_every=1",
    "loss.human_every=6",
    "loss.arguments.warmup_steps=2",
)
#: So many texts of either side tell noise from none.
_COMPARED = 20


@dataclass(frozen=True)
class Gave:
    """Losses by step, eval loss, the loss's figures, the weights of rows, and the model's weights."""

    losses: Mapping[int, float]
    eval_loss: float
    figures: Mapping[str, float]
    row_weight: Mapping[int, float]
    weights: Mapping[str, torch.Tensor]


class Sink:
    """Keeps what a training reports."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.logged.append((dict(values), step))

    def flush(self) -> None:
        pass


def example(clip: Clip, number: int, group: str) -> Example:
    """A text of unequal length; every other one of a machine's has noise in it."""
    text = sample_scene(number).caption()
    if group != HUMAN and number % 2:
        text = f"{text} because the the the the"
    return Example(clip_id=clip.id, text=text, prompt_texts={"transcript": f"words {number}"}, group=group)


def pretrained(make: Callable[..., Workspace], name: str, *overrides: str) -> Gave:
    """What a pretraining on the workspace's clips gives, in a folder of its own."""
    context = RoundContext(make(*SETTINGS, *overrides))
    sink: Any = Sink()
    result = _devices.trained(context, training_of(context, name), sink)
    assert result.steps == 20
    assert result.eval_loss is not None
    return Gave(
        losses={step: values["pretrain/loss"] for values, step in sink.logged if "pretrain/loss" in values},
        eval_loss=result.eval_loss,
        figures=result.figures,
        row_weight=dict(result.row_weight),
        weights=load_file(folder_of(context, name) / "model.safetensors"),
    )


def folder_of(context: RoundContext, name: str) -> Path:
    """Where a training writes its model."""
    return context.workspace.root / name / "model"


def training_of(context: RoundContext, name: str) -> Training:
    """Six clips to learn, two held out, two that people vouch for."""
    clips = list(context.split("train", "anchor", "test"))
    out = folder_of(context, name)
    out.parent.mkdir(exist_ok=True)
    examples = {
        "kept": [example(clip, number, "machine") for number, clip in enumerate(clips[:6])],
        "held_out": [example(clips[n % 6], n, "machine") for n in range(_COMPARED)],
        "human": [example(clips[n % 6], n, HUMAN) for n in range(_COMPARED)],
    }
    return Training(stage="pretrain", start=context.base, out=out, examples=examples)


def when_at(folder: Path, rank: int, step: int, act: Callable[[int], None]) -> threading.Thread:
    """Call ``act`` with a rank's process once it is at a step."""

    def watch() -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            try:
                said = json.loads((folder / f"rank-{rank}.json").read_text())
            except (OSError, ValueError):
                said = {}
            if said.get("step", 0) >= step:
                act(said["pid"])
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


#: Four steps of two texts and two pairs; five pairs leave one to every third step, so of two ranks one has none.
PAIR_SETTINGS = (
    "finetune.num_steps=4",
    "finetune.batch_size=2",
    "finetune.learning_rate=1e-4",
    "pretrain.transcript_dropout=0.5",
)


def tuned(make: Callable[..., Workspace], name: str, *overrides: str, texts: int = 3) -> Gave:
    """What a fine-tuning on five pairs of texts, and on some texts beside them, gives in a folder of its own."""
    context = RoundContext(make(*PAIR_SETTINGS, *overrides))
    clips, sink = list(context.split("train", "anchor", "test")), Sink()
    out = folder_of(context, name)
    out.parent.mkdir(exist_ok=True)
    pairs = [example(clip, number + side, HUMAN) for number, clip in enumerate(clips[:5]) for side in (0, 20)]
    kept = [example(clip, number + 40, HUMAN) for number, clip in enumerate(clips[:texts])]
    training = Training(stage="finetune", start=context.base, out=out, examples={"kept": kept, "pairs": pairs})
    result = _devices.trained(context, training, sink)  # type: ignore[arg-type]
    assert result.steps == 4
    return Gave(
        losses={4: result.loss},
        eval_loss=result.loss,
        figures=result.figures,
        row_weight={},
        weights=load_file(out / "adapter_model.safetensors"),
    )
