"""The proof that an adapter writes: what fits passes, what doesn't is refused before a text is kept.
Real model, real adapters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from annotators import build
from annotators.proof import Canary, canaries, prove
from flywheel.core.errors import ProofFailed, UserError
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import check_adapter, load_vlm
from flywheel.playground.tiny import bundled_model
from flywheel.store import Workspace
from tests.annotators.test_annotate import filled, requests

Make = Callable[..., Workspace]


def adapter_of(folder: Path, seed: int, size: float = 0.2) -> Path:
    """A LoRA adapter on the bundled model whose second matrix is random: it changes what is written."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(
        load_vlm(bundled_model()).model,
        LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, size) if size else parameter.zero_()
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return adapter_of(folder / "new", 1), adapter_of(folder / "old", 2)


def known(adapter: Path) -> list[Canary]:
    vlm = load_vlm(bundled_model(), adapter)
    builder = InputBuilder(vlm.processor)
    return canaries(vlm, builder, requests(4), build("transformers", vlm=vlm, builder=builder))


def served(adapter: Path | None) -> object:
    vlm = load_vlm(bundled_model(), adapter)
    return build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))


def test_the_adapter_is_proven_and_the_base_and_a_stale_adapter_are_not(adapters: tuple[Path, Path]) -> None:
    new, old = adapters
    asked = known(new)
    proof = prove(served(new), asked, 1e-3)  # type: ignore[arg-type]
    assert proof.to_adapter < 1e-4
    assert proof.to_base > 0.05
    assert proof.tokens > 20
    for wrong in (None, old):
        with pytest.raises(ProofFailed, match="does not write what the adapter writes"):
            prove(served(wrong), asked, 1e-3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_adapter_that_hardly_changes_anything_proves_nothing(tmp_path: Path) -> None:
    weak = adapter_of(tmp_path / "weak", 3, size=1e-6)
    with pytest.raises(ProofFailed, match="can't be told"):
        prove(served(weak), known(weak), 1e-3)  # type: ignore[arg-type]


def test_keys(adapters: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_vlm(bundled_model()).model
    assert check_adapter(adapters[0], model) == 28
    with pytest.raises(ProofFailed, match="is all zeros"):
        check_adapter(adapter_of(tmp_path / "zeros", 4, size=0.0), model)
    tensors = load_file(adapters[0] / "adapter_model.safetensors")
    cases = {
        "fits no layer": {k.replace("language_model", "text_model"): v for k, v in tensors.items()},
        "is not whole": {k: v for k, v in tensors.items() if not k.endswith("0.self_attn.q_proj.lora_A.weight")},
    }
    for index, (message, changed) in enumerate(cases.items()):
        folder = tmp_path / str(index)
        shutil.copytree(adapters[0], folder)
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(ProofFailed, match=message):
            check_adapter(folder, model)


@pytest.mark.slow
def test_no_proof_no_text(make_workspace: Make, corpus: Path, adapters: tuple[Path, Path]) -> None:
    """A round whose adapter has other keys stops with one line, and nothing is written; mended, it goes on."""
    context = filled(make_workspace, corpus, "annotate.max_new_tokens=16")
    folder = context.workspace.model_folder(1) / "adapter"
    shutil.copytree(adapters[0], folder)
    good = load_file(folder / "adapter_model.safetensors")
    save_file(
        {k.replace("language_model", "text_model"): v for k, v in good.items()}, folder / "adapter_model.safetensors"
    )
    clips = context.split("test")
    with pytest.raises(ProofFailed, match="fits no layer"):
        context.ask(clips, by=1, round=2, purpose="measure")
    assert context.workspace.generations().is_empty()
    context.unload()
    save_file(good, folder / "adapter_model.safetensors")
    result = context.ask(clips, by=1, round=2, purpose="measure")
    assert result.generated == len(clips)
    assert result.proof is not None
    assert result.proof["to_adapter"] < 1e-3 < result.proof["to_base"]


@pytest.mark.slow
def test_merged_weights_are_served_and_proven_too(
    make_workspace: Make, corpus: Path, adapters: tuple[Path, Path]
) -> None:
    """The fallback: merged weights pass the same proof, and other weights in their place do not."""
    context = filled(make_workspace, corpus, "annotate.max_new_tokens=16", "annotate.serve=merged")
    home = context.workspace.model_folder(1)
    shutil.copytree(adapters[0], home / "adapter")
    clips = context.split("test")
    with pytest.raises(UserError, match=r"finetune\.merge"):
        context.ask(clips, by=1, round=2, purpose="measure")
    for adapter, fits in ((adapters[1], False), (adapters[0], True)):
        shutil.rmtree(home / "merged", ignore_errors=True)
        context.unload()
        vlm = load_vlm(bundled_model(), adapter)
        vlm.model.merge_and_unload().save_pretrained(home / "merged", safe_serialization=True)
        vlm.processor.save_pretrained(home / "merged")
        if fits:
            result = context.ask(clips, by=1, round=2, purpose="measure")
            assert result.generated == len(clips)
            assert result.proof is not None
            assert result.proof["to_adapter"] < 1e-3 < result.proof["to_base"]
        else:
            with pytest.raises(ProofFailed, match="does not write what the adapter writes"):
                context.ask(clips, by=1, round=2, purpose="measure")
            assert context.workspace.generations().is_empty()
