"""A tiny training for the tests: the bundled model, drawn scenes, and what a run of it left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import trainers
from flywheel.core.types import Example
from flywheel.models.features import Tower
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import Vlm, load_vlm
from flywheel.models.prompt import Prompt
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from noise_control import TokenLoss
from trainers import TrainingPlan, TrainingSet

PROMPT = Prompt(
    name="p",
    version=1,
    kind="caption",
    instruction="Describe.",
    hints={"transcript": "T: {text}", "previous": "P: {text}"},
)


class Sink:
    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((dict(values), step))


def picture(clip_id: str) -> ClipInput:
    times = tuple(0.2 + 0.4 * i for i in range(8))
    return ClipInput(
        key=clip_id,
        frames_THWC=scenes.draw(scenes.sample_scene(int(clip_id)), times),
        times_s=times,
        duration_s=3.2,
        fps=10.0,
    )


def examples(count: int, group: str) -> list[Example]:
    return [
        Example(
            clip_id=str(i),
            text=scenes.sample_scene(i).caption(),
            prompt_texts={"transcript": f"words {i}", "previous": None},
            group=group,
        )
        for i in range(count)
    ]


def data(count: int = 12, dropout: float = 0.5, group: str = "g", rows: Sequence[Example] | None = None) -> TrainingSet:
    rows = examples(count, group) if rows is None else rows
    return TrainingSet(examples=rows, input=picture, prompt=PROMPT, dropout={"transcript": dropout}, seed=0)


def fresh() -> tuple[Vlm, InputBuilder]:
    vlm = load_vlm(bundled_model())
    return vlm, InputBuilder(vlm.processor)


def weights(vlm: Vlm) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in vlm.model.named_parameters()}


def calls_of_tower(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips go through a frozen vision tower at each call from now on: a list that grows."""
    through: list[int] = []
    make = Tower.__call__

    def counted(tower: Tower, tensors: Any) -> Any:
        through.append(len(tensors["video_grid_thw"]))
        return make(tower, tensors)

    monkeypatch.setattr(Tower, "__call__", counted)
    return through


def trained(
    folder: Path, loss: TokenLoss, steps: int, rows: Sequence[Example] | None = None, *, looks: bool = False
) -> tuple[dict[str, torch.Tensor], Sink, trainers.TrainingResult]:
    """``steps`` steps of five rows with a checkpoint every other; the weights, what was logged, the result."""
    vlm, builder = fresh()
    sink = Sink()
    plan = TrainingPlan(num_steps=steps, batch_size=5, learning_rate=1e-3, save_every=2, human_every=2, log_every=1)
    compared = {"human": data(4, 0.0, "human"), "held_out": data(3)} if looks else {}
    result = trainers.train(vlm, builder, data(rows=rows), loss, plan, folder, sink=sink, label="t", **compared)
    return weights(vlm), sink, result
