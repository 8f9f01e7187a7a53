"""Which numbers are trained: fp32 weights where they fit, rounded bf16 ones where not, never plain bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import Killed, killed, stop
from training_bed import Sink, data, fresh, picture

import trainers
from flywheel.core.config import parse_config
from flywheel.core.errors import UserError
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm, load_processor, load_vlm
from flywheel.models.score import mean_logprobs
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from noise_control import TokenLoss, losses
from trainers import TrainingPlan, checkpoints
from trainers.weights import Choice, choose, needed_bytes


def test_auto_takes_fp32_masters_where_they_fit_and_rounded_bf16_where_not() -> None:
    small = torch.nn.Linear(8, 8, dtype=torch.bfloat16)
    large = torch.nn.Linear(10**6, 10**6, device="meta", dtype=torch.bfloat16)
    assert choose("auto", "fp32", large).optimizer == "adamw"
    assert choose("auto", "bf16", small).optimizer == "adamw_masters"
    choice = choose("auto", "bf16", large, available=9 * 10**12)
    assert choice.optimizer == "adamw_sr"
    assert "fp32 weights and moments take 16763" in choice.reason
    choice = choose("auto", "bf16", large, available=7 * 10**12)
    assert choice.optimizer == "adamw_8bit"
    assert "bf16 ones 7450.6" in choice.reason
    large.weight.requires_grad_(False)
    assert needed_bytes(large, "adamw_sr") == pytest.approx(2 * 10**12, rel=1e-4), "frozen weights have no moments"


def test_plain_bf16_is_refused_with_what_to_set() -> None:
    model = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    with pytest.raises(UserError, match=r"rounded away.*Set pretrain.optimizer to auto, adamw_masters"):
        choose("adamw", "bf16", model)
    with pytest.raises(UserError, match=r"adamw_sr trains bf16 weights, and models.main.precision is fp32"):
        choose("adamw_sr", "fp32", model)
    with pytest.raises(UserError, match=r"an adapter's few weights are fp32"):
        parse_config({"pretrain": {"method": "lora", "optimizer": "adamw_sr"}})


def test_a_training_of_plain_bf16_weights_does_not_begin(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    vlm = Vlm(model=model, processor=None, digest="", adapter_digest="")
    plan = TrainingPlan(num_steps=1, batch_size=2, learning_rate=1e-5, bf16=True)
    builder = InputBuilder(load_processor(bundled_model()))
    with pytest.raises(UserError, match=r"plain AdamW on bf16 weights: refused"):
        trainers.train(vlm, builder, data(), losses.build("mle"), plan, tmp_path, sink=Sink(), label="t")


def test_checkpoints_are_gone_on_from_with_their_own_optimizer(tmp_path: Path) -> None:
    masters, rounded = (Choice(optimizer=f"adamw_{name}", reason="") for name in ("masters", "sr"))
    auto, fixed, lora = (
        parse_config({"pretrain": values}).pretrain
        for values in ({}, {"optimizer": "adamw_masters"}, {"method": "lora"})
    )
    assert checkpoints.same_choice(tmp_path, auto, rounded) is rounded
    assert checkpoints.same_choice(tmp_path, auto, masters) is masters, "without a checkpoint nothing is gone on from"
    checkpoints.same_choice(tmp_path, auto, rounded)
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "complete").touch()
    assert checkpoints.same_choice(tmp_path, auto, masters).optimizer == "adamw_sr"
    for plan, choice in ((fixed, masters), (lora, Choice(optimizer="adamw", reason=""))):
        with pytest.raises(UserError, match=r"are of pretrain.method full and optimizer adamw_sr, not .* or delete"):
            checkpoints.same_choice(tmp_path, plan, choice)


def pretrained(out: Path, loss: TokenLoss, **plan: Any) -> tuple[trainers.TrainingResult, dict[str, torch.Tensor]]:
    """Two steps with a checkpoint after each; the result and the weights as they were written."""
    config = parse_config({"pretrain": {"num_steps": 2, "batch_size": 1, "save_every": 1, **plan}})
    vlm = load_vlm(bundled_model(), precision="bf16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "build", lambda name, **arguments: loss)
        result = trainers.pretrain(
            vlm,
            InputBuilder(vlm.processor),
            config.pretrain,
            config.loss,
            data(),
            out,
            precision="bf16",
            sink=Sink(),
            held_out=None,
            human=None,
        )
    return result, load_file(out / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw_sr", "adamw_8bit"])
def test_killed_and_resumed_the_weights_are_equal_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    plan = {"optimizer": optimizer, "learning_rate": 1e-5}
    wanted, whole = pretrained(tmp_path / "whole", losses.build("mle"), **plan)
    with pytest.raises(Killed):
        pretrained(tmp_path / "cut", killed(losses.build("mle"), 2, stop), **plan)
    result, resumed = pretrained(tmp_path / "cut", losses.build("mle"), **plan)
    assert (result.loss, result.optimizer) == (wanted.loss, optimizer)
    assert {value.dtype for value in whole.values()} == {torch.bfloat16}
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    base = load_file(bundled_model() / "model.safetensors")
    assert any(not torch.equal(whole[name], base[name].bfloat16()) for name in whole if "language_model" in name)


@pytest.mark.slow
def test_an_adapter_of_pretraining_is_in_the_weights_that_write(tmp_path: Path) -> None:
    """Merged, the bf16 model finds the texts about as likely as the adapted one did at the end of its training."""
    config = parse_config({"pretrain": {"num_steps": 3, "batch_size": 2, "method": "lora", "learning_rate": 1e-3}})
    base = load_vlm(bundled_model(), precision="bf16")
    _, builder = fresh()
    pictures, prompts = [picture("1"), picture("2")], ["Describe."] * 2
    texts = [scenes.sample_scene(i).caption() for i in (1, 2)]
    before = mean_logprobs(base, builder, pictures, prompts, texts)
    adapted: list[Any] = []
    original = trainers.merged

    def looked(model: Any, seed: int) -> Any:
        base.model = model.eval()
        adapted.append(mean_logprobs(base, builder, pictures, prompts, texts))
        return original(model, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "merged", looked)
        trainers.pretrain(
            base,
            builder,
            config.pretrain,
            config.loss,
            data(),
            tmp_path / "model",
            precision="bf16",
            sink=Sink(),
            held_out=None,
            human=None,
        )
    after = mean_logprobs(load_vlm(tmp_path / "model", precision="bf16"), builder, pictures, prompts, texts)
    gained = adapted[0] - before
    assert (gained > 0.2).all()
    assert abs(after - adapted[0]).max() < 0.1 * gained.min()
