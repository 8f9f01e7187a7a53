"""A loss of another package trains by its name in the config; no file of ours knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from training_bed import Sink, data, fresh

import trainers
from flywheel.core.config import parse_config
from flywheel.core.errors import UserError
from noise_control import losses
from tests.plugins import installed

MODULE = '''
"""Half of every token's loss."""

import torch
from noise_control import TokenLoss


class Halved(TokenLoss):
    def __init__(self, factor):
        self.factor, self.calls, self.steps = factor, 0, 0

    def weight(self, statistics, target_N, context):
        self.calls += 1
        return torch.full_like(statistics.nll_N, self.factor)

    def step(self, all_reduce=None):
        self.steps += 1

    def figures(self):
        return {"calls": float(self.calls), "steps": float(self.steps)}


def halved(factor: float = 0.5) -> TokenLoss:
    return Halved(factor)
'''


@pytest.fixture
def their_losses(tmp_path: Path) -> Iterator[None]:
    group = "flywheel.noise_control.losses"
    points = {f"{group}:halved": "their_losses:halved", f"{group}:broken": "their_losses:nothing"}
    with installed(tmp_path, "their_losses", MODULE, points):
        yield


@pytest.mark.usefixtures("their_losses")
@pytest.mark.slow
def test_two_steps_with_a_loss_from_an_entry_point(tmp_path: Path) -> None:
    assert "halved" in losses.names()
    config = parse_config(
        {"loss": {"name": "halved", "arguments": {"factor": 0.25}}, "pretrain": {"num_steps": 2, "batch_size": 4}}
    )
    vlm, builder = fresh()
    sink = Sink()
    result = trainers.pretrain(
        vlm,
        builder,
        config.pretrain,
        config.loss,
        data(),
        tmp_path / "model",
        precision="auto",
        sink=sink,
        held_out=None,
        human=None,
    )
    assert result.steps == 2
    assert result.figures == {"calls": 2.0, "steps": 2.0}
    assert len(result.row_weight) == 8
    assert set(result.row_weight.values()) == {0.25}
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.usefixtures("their_losses")
def test_a_plugin_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"loss 'broken': .*their_losses.* can't be imported"):
        losses.build("broken")
    with pytest.raises(UserError, match=r"unknown argument 'factr'\. Did you mean 'factor'"):
        losses.build("halved", factr=1.0)
