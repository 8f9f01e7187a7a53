"""Adapters by the names that other trainers give their layers: loaded whole, or refused with the key. Real PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flywheel.core.errors import FlywheelError, ProofFailed, UserError
from flywheel.models.load import check_adapter, load_vlm
from flywheel.playground.tiny import bundled_model

pytestmark = pytest.mark.slow
_PEFT = "base_model.model."
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as PEFT saves it, of which every weight is another than at the start."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q|k|v|o)_proj")
    model = get_peft_model(load_vlm(bundled_model(), precision="fp32").model, config)
    generator = torch.Generator().manual_seed(3)
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.01
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return folder


def renamed(adapter: Path, folder: Path, change: Callable[[Tensors], Tensors], **config: object) -> Path:
    """A copy of the adapter with changed tensors, by names without PEFT's prefix, and a changed configuration."""
    shutil.copytree(adapter, folder)
    file, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = {key.removeprefix(_PEFT): value for key, value in load_file(file).items()}
    save_file(change(tensors), file)
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **config}))
    return folder


NAMES: dict[str, Callable[[str], str]] = {
    "bare": lambda key: key,
    "peft": lambda key: _PEFT + key,
    "twice": lambda key: _PEFT + _PEFT + key,
    "default": lambda key: _PEFT + key.replace(".weight", ".default.weight"),
    "without model": lambda key: key.removeprefix("model."),
    "compiled": lambda key: f"_orig_mod.{key}",
    "text alone": lambda key: key.replace("model.language_model.", "model."),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_loaded(name: str, adapter: Path, tmp_path: Path) -> None:
    folder = renamed(adapter, tmp_path / "a", lambda t: {NAMES[name](key): value for key, value in t.items()})
    loaded = dict(load_vlm(bundled_model(), folder, precision="fp32").model.named_parameters())
    tensors = load_file(adapter / "adapter_model.safetensors")
    for key, value in tensors.items():
        assert torch.equal(loaded[key.replace(".weight", ".default.weight")], value)
    assert len(tensors) == sum("lora_" in key for key in loaded) > 0


def _of_rank_8(tensors: Tensors) -> Tensors:
    first = next(key for key in tensors if "lora_A" in key)
    other = first.replace("lora_A", "lora_B")
    return {**tensors, first: tensors[first].repeat(2, 1), other: tensors[other].repeat(1, 2)}


def test_ranks_are_those_of_the_file(adapter: Path, tmp_path: Path) -> None:
    folder = renamed(adapter, tmp_path / "bare", _of_rank_8)
    loaded = dict(load_vlm(bundled_model(), folder, precision="fp32").model.named_parameters())
    assert sorted({value.shape[0] for key, value in loaded.items() if "lora_A" in key}) == [4, 8]
    peft = renamed(adapter, tmp_path / "peft", lambda t: {_PEFT + k: v for k, v in _of_rank_8(t).items()})
    with pytest.raises(ProofFailed, match="PEFT can't load it"):
        load_vlm(bundled_model(), peft, precision="fp32")


def test_what_can_not_act_is_refused(adapter: Path, tmp_path: Path) -> None:
    model = load_vlm(bundled_model(), precision="fp32").model
    changes: dict[str, Callable[[Tensors], Tensors]] = {
        "no numbers": lambda t: {key: value * float("nan") for key, value in t.items()},
        "trained on another model": lambda t: {k: v.repeat(1, 2) if "lora_A" in k else v for k, v in t.items()},
        "fits no layer": lambda t: {key.replace("q_proj", "query"): value for key, value in t.items()},
    }
    for number, (message, change) in enumerate(changes.items()):
        with pytest.raises(ProofFailed, match=message):
            check_adapter(renamed(adapter, tmp_path / str(number), change), model)
    with pytest.raises(UserError, match="is no adapter"):
        check_adapter(tmp_path, model)
    (tmp_path / "0" / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(FlywheelError, match="can't be read"):
        check_adapter(tmp_path / "0", model)
