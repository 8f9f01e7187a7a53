"""The memory plan against what is kept and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.core.config import Pretrain, template
from flywheel.models.load import load_vlm, without_weights
from flywheel.playground.tiny import bundled_model
from flywheel.rounds.memory_plan import kept_bytes, step_bytes
from flywheel.rounds.spread import Spread
from trainers import mark_trained
from trainers.weights import PARTS, Choice, needed_bytes

GIB = 2**30


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_what_is_kept_of_a_token_is_what_a_real_pass_keeps(precision: str) -> None:
    model = load_vlm(bundled_model(), precision=precision).model
    hidden = torch.zeros(1, 256, model.config.get_text_config().hidden_size, dtype=model.dtype, requires_grad=True)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.get_decoder()(inputs_embeds=hidden, use_cache=False)
    measured = sum(storage.nbytes() for storage in kept.values()) / 256
    counted = kept_bytes(without_weights(bundled_model(), precision), model.dtype)
    assert abs(counted / measured - 1) < 0.02


def two_billion(tmp_path: Path) -> Any:
    """Qwen3-VL at 2.13 billion parameters, without storage."""
    raw = json.loads((bundled_model() / "config.json").read_text())
    text = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    text |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
    raw["text_config"] |= text
    raw["text_config"]["rope_parameters"] = {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_theta": 5_000_000,
        "rope_type": "default",
    }
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "num_heads": 16, "out_hidden_size": 2048}
    raw["vision_config"] |= {**vision, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return without_weights(tmp_path, "bf16")


@pytest.mark.slow
def test_the_plan_is_within_15_percent_of_peaks_that_a_gpu_showed(tmp_path: Path) -> None:
    """One H100, 4 clips of 16 frames at 448 x 448, checkpointed: 8.3 GiB for a pass in bf16, 29.3 for fp32 masters."""
    pretrain = Pretrain(gradient_checkpointing=True, batch_size=4)
    model = mark_trained(two_billion(tmp_path), pretrain)
    parts = step_bytes(model, Choice(optimizer="adamw_sr", reason=""), pretrain, 7245, 641)
    alone = sum(size for part, size in parts.items() if part != "moments") / GIB
    assert abs(alone / 8.3 - 1) < 0.15
    masters = step_bytes(model, Choice(optimizer="adamw_masters", reason=""), pretrain, 7245, 641)
    assert abs(sum(masters.values()) / GIB / 29.3 - 1) < 0.15


@pytest.mark.slow
def test_an_adapter_takes_little_beside_its_model(tmp_path: Path) -> None:
    pretrain = Pretrain(gradient_checkpointing=True, method="lora")
    adapted = step_bytes(
        mark_trained(two_billion(tmp_path), pretrain), Choice(optimizer="adamw", reason=""), pretrain, 7245, 641
    )
    assert 2.13e9 * 2 < adapted["weights"] < 2.13e9 * 2.3
    assert adapted["moments"] < 0.1 * adapted["weights"] * 4
    assert adapted["activations"] > 0


@pytest.mark.parametrize("optimizer", sorted(PARTS))
def test_parts_sum_up_to_what_the_choice_goes_by(optimizer: str) -> None:
    pretrain = Pretrain()
    model = mark_trained(without_weights(bundled_model(), "bf16"), pretrain)
    parts = step_bytes(model, Choice(optimizer=optimizer, reason=""), pretrain, 0, 0)
    assert sum(parts.values()) == needed_bytes(model, optimizer)


@pytest.mark.slow
def test_doctor_says_what_fits_and_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "flywheel.yaml").write_text(template())
    command = ["doctor", "--config", str(tmp_path), "--plan", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["fits"]
    assert found["training_gib"] == pytest.approx(sum(found["training"].values()))
    small = CliRunner().invoke(app, [*command, "--gpu-memory", "0.05"])
    assert small.exit_code == 1
    assert json.loads(small.stdout)["change"] == "set pretrain.gradient_checkpointing"


def test_shards_of_all_devices_are_the_whole() -> None:
    """What is sharded is there once over all devices, what is not on each; offloaded it is the machine's."""
    model = mark_trained(without_weights(bundled_model(), "bf16"), Pretrain())
    alone = step_bytes(model, Choice(optimizer="adamw_masters", reason=""), Pretrain(), 10, 2)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = {}
    for strategy in ("ddp", "zero1", "zero2", "zero3"):
        device, host = Spread(strategy=strategy, devices=4, offload=False).of(alone, model)
        held[strategy] = device
        assert device["activations"] == alone["activations"]
        assert bool(host) == (strategy != "ddp")
    assert held["ddp"]["buckets"] == alone["gradients"]
    assert {held[f"zero{stage}"]["masters and moments"] for stage in (1, 2, 3)} == {12 * trained / 4}
    assert held["zero1"]["gradients"] == 4 * held["zero2"]["gradients"] == 4 * held["zero3"]["gradients"]
    assert held["zero1"]["weights"] == held["zero2"]["weights"] == 4 * held["zero3"]["weights"]
    device, host = Spread(strategy="zero3", devices=4, offload=True).of(alone, model)
    assert host["weights"] == held["zero2"]["weights"]
    assert host["masters and moments"] == 12 * trained
    assert not {"weights", "masters and moments"} & device.keys()
