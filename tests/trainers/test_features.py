"""What a frozen vision tower makes of clips is kept in a training, and nothing learned is another for it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trainers
from flywheel.core.config import parse_config
from flywheel.models.features import KeptFeatures, kept_features
from flywheel.models.inputs import ClipInput, InputBuilder, InputRow
from flywheel.models.load import Vlm
from noise_control import losses
from tests.trainers.training_bed import PROMPT, Sink, calls_of_tower, data, fresh, picture, weights
from trainers import TrainingPlan
from trainers.data import Collator
from trainers.lora import with_adapter

ROOM = 1 << 30


def rows(builder: InputBuilder) -> list[InputRow]:
    return [builder.row(picture(name), "Describe.", "A red ball.") for name in ("1", "2")]


def frozen() -> tuple[Vlm, InputBuilder]:
    vlm, builder = fresh()
    for name, parameter in vlm.model.named_parameters():
        parameter.requires_grad_(".visual." not in name)
    return vlm, builder


def learned(tmp_path: Path, features_bytes: int) -> tuple[dict[str, torch.Tensor], trainers.TrainingResult, Sink]:
    """Weights after four steps of pretraining with looks at people's texts."""
    vlm, builder = fresh()
    config = parse_config(
        {"pretrain": {"num_steps": 4, "batch_size": 5, "save_every": 2, "log_every": 1}, "loss": {"human_every": 2}}
    )
    sink, out = Sink(), tmp_path / str(features_bytes)
    more: dict[str, Any] = {"held_out": data(3), "human": data(3, 0.0, "human"), "features_bytes": features_bytes}
    result = trainers.pretrain(
        vlm, builder, config.pretrain, config.loss, data(), out, precision="auto", sink=sink, **more
    )
    return weights(vlm), result, sink


@pytest.mark.slow
def test_what_is_learned_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip goes through the tower once, alone; weights, figures and eval loss are those of every step anew."""
    plain, result, sink = learned(tmp_path, 0)
    through = calls_of_tower(monkeypatch)
    kept, kept_result, kept_sink = learned(tmp_path, ROOM)
    # The first clip to see that it is constant, two alone and together, then each of the twelve once.
    assert through == [1, 1, 1, 2, *[1] * 12]
    for name in plain:
        torch.testing.assert_close(kept[name], plain[name], rtol=1e-4, atol=1e-5)
    assert kept_result.loss == pytest.approx(result.loss, rel=1e-5)
    assert kept_result.eval_loss == pytest.approx(result.eval_loss, rel=1e-4)
    assert [step for _, step in kept_sink.logged] == [step for _, step in sink.logged]


@pytest.mark.slow
def test_a_resumed_training_learns_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are of a clip alone, so it does not matter in which batch, or how often, they were computed."""
    plan = TrainingPlan(num_steps=4, batch_size=5, learning_rate=1e-3, save_every=2, features_bytes=ROOM)

    def train() -> dict[str, torch.Tensor]:
        vlm, builder = frozen()
        trainers.train(vlm, builder, data(), losses.build("mle"), plan, tmp_path, sink=Sink(), label="t")
        return weights(vlm)

    through = calls_of_tower(monkeypatch)
    whole = train()
    assert through == [1, 1, 1, 2, *[1] * 12], "each of the twelve clips once"
    shutil.rmtree(tmp_path / "checkpoint-4")
    through.clear()
    resumed = train()
    assert 4 < len(through) < 16, "the clips of two steps alone, anew"
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())


@pytest.fixture(scope="module")
def tower() -> tuple[Vlm, InputBuilder]:
    """A model that no test changes."""
    return frozen()


def test_features_of_clips_alone_are_those_of_the_batch_and_those_that_do_not_fit_are_made_anew(
    tower: tuple[Vlm, InputBuilder],
) -> None:
    vlm, builder = tower
    some = rows(builder)
    kept, total = kept_features(vlm.model, some, 2, most_bytes=ROOM, bf16=False)
    assert kept is not None
    assert total == 2 * 32 * 128 * 4 * 2, "32 tokens of 128 numbers, and one layer's more"
    assert kept_features(vlm.model, some, 2, most_bytes=total - 1, bf16=False) == (None, total)
    batch, pixels = kept.without_pixels([("1", some[0]), ("2", some[1])])
    assert pixels is not None
    inputs = builder.batch(batch)
    assert "pixel_values_videos" not in inputs
    few = KeptFeatures(kept._tower, total // 2)
    labels = inputs.pop("labels")
    with torch.no_grad():
        wanted = vlm.model(**{k: v for k, v in builder.batch(some).items() if k != "labels"}).logits
        for keeper in (kept, kept, few, few):
            torch.testing.assert_close(vlm.model(**inputs, **keeper.instead(pixels)).logits, wanted)
    assert labels.shape[0] == 2
    assert (kept.size_bytes, few.size_bytes) == (total, total // 2)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["all trained", "adapter on the tower", "random", "off"])
def test_what_can_change_is_not_kept(what: str) -> None:
    vlm, builder = frozen()
    some, model, room = rows(builder), vlm.model, ROOM
    if what == "all trained":
        model.requires_grad_(True)
    elif what == "adapter on the tower":
        model = with_adapter(model, rank=2, alpha=2, dropout=0.0, target_modules=".*visual.*qkv")
    elif what == "random":
        model.model.visual.merger.norm = torch.nn.Sequential(model.model.visual.merger.norm, torch.nn.Dropout(0.1))
    else:
        room = 0
    modes = [module.training for module in model.modules()]
    assert kept_features(model, some, 2, most_bytes=room, bf16=False) == (None, 0)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.slow
def test_an_adapter_on_the_language_layers_leaves_the_tower_frozen() -> None:
    vlm, builder = fresh()
    model = with_adapter(vlm.model, rank=2, alpha=2, dropout=0.0, target_modules=".*language_model.*q_proj")
    kept, _ = kept_features(model, rows(builder), 2, most_bytes=ROOM, bf16=False)
    assert kept is not None


def test_a_text_alone_has_no_features(tower: tuple[Vlm, InputBuilder]) -> None:
    vlm, builder = tower
    row = builder.row(None, PROMPT.instruction, "A.")
    assert kept_features(vlm.model, [row, row], 2, most_bytes=ROOM, bf16=False) == (None, 0)
    kept, _ = kept_features(vlm.model, rows(builder), 2, most_bytes=ROOM, bf16=False)
    assert kept is not None
    assert kept.without_pixels([("1", row)]) == ([row], None)


def test_a_clip_whose_pixels_are_kept_is_not_read_again(tower: tuple[Vlm, InputBuilder]) -> None:
    vlm, _ = tower
    builder = InputBuilder(vlm.processor)
    assert builder.kept_row("1", "Describe.", "A red ball.") is None
    row = builder.row(picture("1"), "Describe.", "A red ball.")
    kept = builder.kept_row("1", "Describe.", "A red ball.")
    assert kept is not None
    assert (kept.ids, kept.num_prompt) == (row.ids, row.num_prompt)
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in row.tensors.items())

    def read(clip_id: str) -> ClipInput:
        assert clip_id != "1"
        return picture(clip_id)

    rows = replace(data(2), examples=data(2).examples[1:], input=read, frames_alone=True)
    batch = Collator(rows, builder, {"g": 0}, None)([0])
    assert batch["pixel_values_videos"].shape[0] == row.tensors["pixel_values_videos"].shape[0]
