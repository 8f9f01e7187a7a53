"""The proof that an adapter writes: what fits passes, what doesn't is refused before a text is kept.
Real model, real adapters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from annotators import Result, build
from annotators.canaries import SEEN, Canary, canaries, mean_difference, reference_noise, score
from annotators.proof import Verdict, judged, prove, unseen
from flywheel.core.errors import ProofFailed, UserError
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import check_adapter, load_vlm
from flywheel.models.merged import is_made_of, note_origin
from flywheel.playground.tiny import bundled_model
from flywheel.rounds.figures import proof_figures
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


@cache
def known(adapter: Path, precision: str = "fp32") -> list[Canary]:
    vlm = load_vlm(bundled_model(), adapter, precision=precision)
    builder = InputBuilder(vlm.processor)
    return canaries(vlm, builder, requests(8), build("transformers", vlm=vlm, builder=builder))


def served(adapter: Path | None, precision: str = "fp32", attention: str = "sdpa") -> Any:
    vlm = load_vlm(bundled_model(), adapter, precision=precision)
    (vlm.model if adapter is None else vlm.model.get_base_model()).set_attn_implementation(attention)
    return build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_adapter_is_proven_and_the_base_and_a_stale_adapter_are_not(
    adapters: tuple[Path, Path], precision: str
) -> None:
    """Also by an engine whose attention rounds elsewhere, and by noise that is measured."""
    new, old = adapters
    asked = known(new, precision)
    proof = prove(served(new, precision, "eager"), asked)
    assert proof.verdict is Verdict.PROVEN
    assert proof.to_adapter is not None
    assert proof.to_base is not None
    assert proof.to_adapter <= proof.tolerance < proof.adapter_to_base
    assert proof.to_base > 0.05
    assert proof.tokens > 20
    if precision == "fp32":
        assert proof.to_adapter < 1e-4
    for wrong in (None, old):
        assert prove(served(wrong, precision, "eager"), asked).verdict is Verdict.REFUTED


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_noise_is_measured_also_where_an_engine_always_says_the_same(
    adapters: tuple[Path, Path], precision: str
) -> None:
    """Another attention is nearer to the reference than its noise allows, though each is the same to itself."""
    asked = known(adapters[0], precision)[:4]
    vlm = load_vlm(bundled_model(), adapters[0], precision=precision)
    vlm.model.get_base_model().set_attn_implementation("eager")
    builder = InputBuilder(vlm.processor)
    other = [score(vlm, builder, c.request, c.token_ids)[0] for c in asked]
    far = mean_difference([x for row in other for x in row], [x for c in asked for x in c.adapted])
    assert 0 < far < 3 * reference_noise(asked) < 0.1


def lighter(adapter: Path, folder: Path, factor: float) -> Path:
    """The adapter with its change of the model made ``factor`` times as large."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file({k: v * factor if "lora_B" in k else v for k, v in load_file(file).items()}, file)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "factor"), [("fp32", 0.0), ("bf16", 1e-4)])
def test_an_adapter_that_changes_nothing_is_unseen_before_an_engine_starts(
    adapters: tuple[Path, Path], tmp_path: Path, precision: str, factor: float
) -> None:
    asked = known(lighter(adapters[0], tmp_path / "light", factor), precision)
    found = unseen(asked)
    assert found is not None
    assert found.verdict is Verdict.UNSEEN
    assert found.adapter_to_base <= SEEN * found.noise
    assert unseen(known(adapters[0], precision)) is None


@pytest.mark.slow
def test_what_was_to_change_less_than_a_fixed_tolerance_is_proven(adapters: tuple[Path, Path], tmp_path: Path) -> None:
    """An effect of some hundredths of a nat, where once .15 was asked for; the base in its place is refuted."""
    light = lighter(adapters[0], tmp_path / "light", 0.15)
    asked = known(light, "bf16")
    proof = prove(served(light, "bf16"), asked)
    assert proof.adapter_to_base < 0.15
    assert proof.verdict is Verdict.PROVEN
    assert prove(served(None, "bf16"), asked).verdict is Verdict.REFUTED


@pytest.mark.slow
def test_keys(adapters: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_vlm(bundled_model()).model
    assert check_adapter(adapters[0], model) == 28
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


@pytest.mark.slow
def test_a_round_goes_on_where_the_adapter_changes_nothing(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """The base writes, and the record says so."""
    context = filled(make_workspace, corpus, "annotate.max_new_tokens=4")
    adapter_of(context.workspace.model_folder(1) / "adapter", 4, size=0.0)
    clips = list(context.split("test"))[:2]
    result = context.ask(clips, by=1, round=2, purpose="measure")
    assert result.generated == len(clips)
    assert result.proof is not None
    assert (result.proof["verdict"], result.proof["wrote"]) == ("unseen", "base")
    assert result.proof["adapter_to_base"] == 0
    assert proof_figures(result.proof)["adapter_proof/seen"] == 0


@pytest.mark.slow
def test_merged_weights_of_an_unseen_adapter_are_known_by_their_digest(
    make_workspace: Make, corpus: Path, tmp_path: Path
) -> None:
    """As fine-tuning notes it; the base writes where the weights are not those any more."""
    context = filled(make_workspace, corpus, "annotate.max_new_tokens=4", "annotate.serve=merged")
    home = context.workspace.model_folder(1)
    adapter = adapter_of(home / "adapter", 4, size=0.0)
    vlm = load_vlm(bundled_model(), adapter)
    vlm.model.merge_and_unload().save_pretrained(home / "merged", safe_serialization=True)
    vlm.processor.save_pretrained(home / "merged")
    note_origin(home / "merged", vlm.digest, adapter)
    clips = list(context.split("test"))[:2]
    result = context.ask(clips, by=1, round=2, purpose="measure")
    assert result.proof is not None
    assert (result.generated, result.proof["wrote"]) == (2, "merged")
    file = home / "merged" / "model.safetensors"
    save_file({k: v * 1.5 for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    assert not is_made_of(home / "merged", bundled_model(), adapter)


@pytest.mark.parametrize(("says", "verdict"), [("base", Verdict.REFUTED), ("adapter", Verdict.UNSEEN)])
def test_what_parts_early_is_judged_by_what_it_is_nearer_to(says: str, verdict: Verdict) -> None:
    """The adapter changes much after the token where the texts part, little before it: too little to prove it by."""
    shift = [0.025] * 12 + [0.2] * 12
    canary = Canary(
        request=requests(1)[0],
        token_ids=tuple(range(24)),
        adapted=(-1.0,) * 24,
        base=tuple(-1.0 - x for x in shift),
        margins=(0.1,) * 24,
        generated=(-1.0,) * 24,
        rounded=(-1.01,) * 24,
    )
    wrote = Result(
        key=canary.request.key,
        text="",
        token_ids=(*range(12), *range(112, 124)),
        logprobs=canary.base if says == "base" else canary.adapted,
        tokens_in=1,
        finish="length",
        seconds=0.0,
    )
    assert judged([(canary, wrote)], 0.0, None).verdict is verdict
