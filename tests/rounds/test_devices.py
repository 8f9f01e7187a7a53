"""Several processes learn what one learns: losses, noise rates, suspicion, weights; and a killed one loses nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from devices_bed import Gave, pretrained, tuned, when_at

from flywheel.core.config import parse_config
from flywheel.core.errors import BorderError, UserError
from flywheel.models.load import chosen_precision
from flywheel.rounds.devices import check_devices, devices_of
from flywheel.rounds.join import open_jobs
from flywheel.store import Workspace
from trainers.checkpoints import same_ranks

Make = Callable[..., Workspace]


@pytest.fixture(scope="module")
def alone(six_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Gave:
    """What one process gives."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(six_clips, folder / "w")
    return pretrained(lambda *overrides: Workspace.open(folder / "w", list(overrides)), "alone", "train.devices=1")


def check_equal(gave: Gave, alone: Gave, since: int = 0) -> None:
    """Equal within 1e-5 in float32, of the steps that were logged since the resume."""
    assert len(alone.row_weight) == 6
    assert gave.losses == pytest.approx({s: v for s, v in alone.losses.items() if s > since}, abs=1e-5)
    assert gave.eval_loss == pytest.approx(alone.eval_loss, abs=1e-5)
    assert gave.figures == pytest.approx(dict(alone.figures), abs=1e-5)
    assert gave.row_weight == pytest.approx(dict(alone.row_weight), abs=1e-5)
    apart = max(float((gave.weights[name] - value).abs().max()) for name, value in alone.weights.items())
    assert apart < 1e-4
    moved = max(float(value.abs().max()) for value in alone.weights.values())
    assert torch.isfinite(torch.tensor(moved))


@pytest.mark.slow
def test_of_two_ranks_one_is_killed_and_the_resumed_training_equals_one_process(
    ingested: Workspace, make_workspace: Make, alone: Gave
) -> None:
    folder = ingested.root / "two" / "model.ranks"
    watch = when_at(folder, 1, 9, lambda pid: os.kill(pid, signal.SIGKILL))
    two = ("train.devices=2", "train.strategy=ddp")
    with pytest.raises(BorderError, match=r"^pretrain: rank 1 was ended by SIGKILL.* Run the same command"):
        pretrained(make_workspace, "two", *two)
    watch.join()
    assert not (ingested.root / "two" / "model").exists(), "nothing half done"
    check_equal(pretrained(make_workspace, "two", *two), alone, since=6)


@pytest.mark.slow
def test_two_ranks_with_sharded_weights_equal_one_process(
    ingested: Workspace, make_workspace: Make, alone: Gave
) -> None:
    pytest.importorskip("deepspeed")
    check_equal(pretrained(make_workspace, "two", "train.devices=2", "train.strategy=zero3"), alone)


@pytest.mark.slow
def test_pairs_on_two_ranks_teach_what_they_teach_one_process(ingested: Workspace, make_workspace: Make) -> None:
    """Losses, rewards and the adapter, of texts and pairs by turns; of one rank with nothing in a step too."""
    one = tuned(make_workspace, "one", "train.devices=1")
    two = tuned(make_workspace, "two", "train.devices=2", "train.strategy=ddp")
    assert two.losses == pytest.approx(one.losses, abs=1e-5)
    assert (one.figures["margin"], set(one.figures)) != (0.0, set())
    assert two.figures == pytest.approx(dict(one.figures), abs=1e-5)
    # Adam divides a gradient by its size, so that rounding shows where it is tiny: ten times the rate, 2.2e-5 was seen.
    assert max(float((two.weights[name] - value).abs().max()) for name, value in one.weights.items()) < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 2, "strategy": "single"}, r"train: strategy single is for one device, and devices is 2"),
        ({"strategy": "ddp", "offload": True}, r"train: offload is for zero1 to zero3"),
        ({"devices": 0}, r"train\.devices: must be auto or a number from 1 on, got 0"),
        (
            {"launch": ["--num_machines", "2"]},
            r"train\.devices: auto, with train\.launch\. Set it to the number over all",
        ),
        ({"devices": 2, "strategy": "zero2"}, r"asks for DeepSpeed \(zero2\), which is not installed"),
    ],
)
def test_devices_that_can_not_be_are_one_line(
    settings: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=message):
        check_devices(parse_config({"train": settings}), tmp_path)


def test_checkpoints_of_another_number_of_ranks_go_on_or_are_refused(tmp_path: Path) -> None:
    """Whole weights go on with any number; shards with their own alone, and the folder is left as it was."""
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    for folder, strategy in ((whole, "ddp"), (shards, "zero2")):
        same_ranks(folder, strategy, 2)
        (folder / "checkpoint-4").mkdir()
        (folder / "checkpoint-4" / "complete").touch()
    same_ranks(whole, "single", 1)
    same_ranks(whole, "ddp", 8)
    same_ranks(shards, "zero2", 2)
    for folder, strategy, ranks, told in (
        (
            shards,
            "zero2",
            4,
            r"are shards of zero2 on 2 devices, and this training would be shards of zero2 on 4 devices",
        ),
        (shards, "ddp", 2, r"are shards of zero2 on 2 devices, and this training would be of whole weights"),
        (whole, "zero3", 2, r"are of whole weights, and this training would be shards of zero3 on 2 devices"),
    ):
        with pytest.raises(UserError, match=rf"{told}\. Set train\.strategy and train\.devices back, or delete"):
            same_ranks(folder, strategy, ranks)
        assert (folder / "checkpoint-4" / "complete").exists()


@pytest.mark.parametrize("method", ["dpo", "sft+dpo"])
@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_pairs_are_refused_before_anything_where_weights_are_sharded(
    strategy: str, method: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    wanted = {"train": {"devices": 2, "strategy": strategy}, "finetune": {"method": method}}
    message = rf"^finetune\.method: {re.escape(method)} is not shown to learn with train\.strategy {strategy} what"
    with pytest.raises(UserError, match=message):
        check_devices(parse_config(wanted), tmp_path)
    check_devices(parse_config({**wanted, "finetune": {"method": "sft"}}), tmp_path)
    check_devices(parse_config({**wanted, "train": {"devices": 2, "strategy": "ddp"}}), tmp_path)


@pytest.mark.slow
def test_an_optimizer_of_whole_weights_is_not_for_shards(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    wanted = {"train": {"devices": 2, "strategy": "zero3"}, "pretrain": {"optimizer": "adamw_sr"}}
    with pytest.raises(UserError, match=r"adamw_sr is for whole weights, and train\.strategy zero3 shards"):
        check_devices(parse_config(wanted), tmp_path)


def test_a_gpu_without_bf16_is_named_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    asked = parse_config({"models": {"main": {"precision": "bf16"}}})
    message = r"^models.main.precision: bf16, which Tesla T4 does not compute in. Set it to auto or fp32.$"
    with pytest.raises(UserError, match=message):
        check_devices(asked, tmp_path)
    check_devices(parse_config({}), tmp_path)
    assert chosen_precision("auto") == "fp32"


def test_more_devices_than_gpus_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for strategy in ("auto", "ddp", "zero3"):
        asked = parse_config({"train": {"devices": 4, "strategy": strategy}})
        with pytest.raises(UserError, match=r"^train.devices: 4, and this machine shows 2. Set it to auto, or to 2.$"):
            check_devices(asked, tmp_path)
    assert devices_of(parse_config({"train": {"devices": "auto", "strategy": "ddp"}}), tmp_path)[0] == 2


@pytest.mark.slow
def test_one_device_trains_here_and_strategies_are_named(tmp_path: Path) -> None:
    for settings, wanted in (
        ({}, (1, "single")),
        ({"devices": 1, "strategy": "ddp"}, (1, "single")),
        ({"devices": 3, "strategy": "ddp", "accumulation": 2}, (3, "ddp")),
        ({"devices": 3}, (3, "ddp")),
    ):
        count, strategy = devices_of(parse_config({"train": settings}), tmp_path)
        assert (count, strategy.name) == wanted


def test_a_machine_that_joins_takes_part_in_each_start_once(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "round=001" / "model.ranks"
    folder.mkdir(parents=True)
    assert not list(open_jobs(tmp_path, set()))
    for start in ("a", "b"):
        (folder / "job.json").write_text(json.dumps({"started": start}))
        assert list(open_jobs(tmp_path, {"0"})) == [(folder, start)]
        assert not list(open_jobs(tmp_path, {start})), "the round was not started again"
    (folder / "job.json").write_text('{"started": "c')
    assert not list(open_jobs(tmp_path, set())), "it is being written"
