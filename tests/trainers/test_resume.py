"""Killed and resumed, a training ends as one that was not.

Weights, loss, and the weights of rows that become signals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_bed import examples, trained

from noise_control import TokenLoss, losses
from trainers.checkpoints import last_checkpoint
from trainers.row_weights import RowWeights


class Killed(BaseException):
    """Nothing of ours may catch it."""


def killed(loss: TokenLoss, at: int, by: Callable[[], None]) -> TokenLoss:
    """The loss, with ``by`` called in the ``at``-th optimizer step."""
    original, calls = loss.step, [0]

    def step(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            by()
        original(*arguments)

    loss.step = step  # type: ignore[method-assign]
    return loss


def stop() -> None:
    raise Killed


@pytest.mark.slow
def test_rows_seen_before_a_kill_keep_their_weights(tmp_path: Path) -> None:
    """Twenty rows, four steps of five.

    Each row is seen once, half of them before the checkpoint that is gone on from.
    """
    rows = examples(20, "g")
    whole, _, wanted = trained(tmp_path / "whole", losses.build("dft"), 4, rows)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", killed(losses.build("dft"), 4, stop), 4, rows)
    resumed, _, result = trained(tmp_path / "cut", losses.build("dft"), 4, rows)
    assert sorted(wanted.row_weight) == list(range(20))
    assert len(set(wanted.row_weight.values())) > 10, "or nothing was compared"
    assert dict(result.row_weight) == dict(wanted.row_weight)
    assert result.loss == wanted.loss, "of all steps, not of those since the resume"
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.slow
def test_killed_after_the_last_step_nothing_is_trained_again(tmp_path: Path) -> None:
    """Five steps are no whole number of epochs of twelve rows: transformers alone would take a sixth."""
    whole, _, wanted = trained(tmp_path, losses.build("dft"), 5)
    again, sink, result = trained(tmp_path, losses.build("dft"), 5)
    assert result.steps == 5
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert dict(result.row_weight) == dict(wanted.row_weight)
    assert result.loss == wanted.loss
    assert not [values for values, _ in sink.logged if "t/loss" in values]


def test_row_weights_are_of_the_last_visit() -> None:
    weights = RowWeights(6)
    assert len(weights) == 0
    weights.note(torch.tensor([4, 1]), torch.tensor([0.5, 0.25]), 3)
    weights.note(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]), 4)
    assert dict(weights) == {0: 1.0, 1: 0.75, 4: 0.5}
    for row in (2, -1, 6):
        with pytest.raises(KeyError):
            weights[row]
    same, other = RowWeights(6), RowWeights(7)
    for copy in (same, other):
        copy.load_state_dict(weights.state_dict())
    assert dict(same) == dict(weights)
    assert dict(other) == {}, "rows of another data set are others"


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def loss() -> TokenLoss:
        return losses.build("adatailr", warmup_steps=1)

    whole, whole_sink, whole_result = trained(tmp_path / "whole", loss(), 7, looks=True)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", killed(loss(), 6, stop), 7, looks=True)
    assert last_checkpoint(tmp_path / "cut") is not None
    (tmp_path / "cut" / "checkpoint-5").mkdir()
    resumed, sink, result = trained(tmp_path / "cut", loss(), 7, looks=True)
    assert not (tmp_path / "cut" / "checkpoint-5").exists(), "a checkpoint that was cut off is not gone on from"
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    logged, whole_logged = ({s: v["t/loss"] for v, s in k.logged if "t/loss" in v} for k in (sink, whole_sink))
    assert logged == {step: whole_logged[step] for step in (5, 6, 7)}
    assert result.figures == whole_result.figures
    assert dict(result.row_weight) == dict(whole_result.row_weight)


WORKER = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from noise_control import losses
from test_resume import killed
from training_bed import examples, trained

folder, at = Path(sys.argv[2]), int(sys.argv[3])
loss = losses.build("tailr", gamma=0.3)
if at:
    killed(loss, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
_, _, result = trained(folder, loss, int(sys.argv[4]), examples(40, "g"))
out = {"rows": sorted(result.row_weight.items()), "loss": result.loss}
Path(f"{folder}.json").write_text(json.dumps(out))
"""


def launched(folder: Path, at: int, steps: int) -> int:
    worker = folder.parent / "worker.py"
    worker.write_text(WORKER)
    command = [sys.executable, str(worker), str(Path(__file__).parent), str(folder), str(at), str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert at or done.returncode == 0, done.stderr[-3000:]
    return done.returncode


@pytest.mark.slow
def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    launched(tmp_path / "whole", 0, 8)
    assert launched(tmp_path / "cut", 6, 8) == -signal.SIGKILL
    assert not (tmp_path / "cut.json").exists()
    launched(tmp_path / "cut", 0, 8)
    whole, cut = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "cut"))
    assert [row for row, _ in whole["rows"]] == list(range(40))
    assert cut == whole
