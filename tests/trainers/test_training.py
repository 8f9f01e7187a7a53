"""Training: exact resume, hints held back, the vision tower left alone, adapters that are what they say."""

from __future__ import annotations

import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from test_resume import Killed, killed, stop
from training_bed import PROMPT, Sink, data, fresh, picture, weights

import trainers
from flywheel.core.config import parse_config
from flywheel.core.errors import FlywheelError
from flywheel.core.types import Example
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import folder_digest, load_vlm
from flywheel.models.score import mean_logprobs
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from noise_control import TokenContext, losses
from trainers.data import BucketSampler, Clock, TrainingSet
from trainers.training import TrainingPlan, train


def test_hints_are_held_back_as_often_as_asked_and_never_give_the_answer_away() -> None:
    many = data(200, dropout=0.3)
    shown = sum("T: words" in many.prompt_text(i, epoch) for i in range(200) for epoch in range(5)) / 1000
    assert shown == pytest.approx(0.7, abs=0.05)
    assert many.prompt_text(3, 1) == many.prompt_text(3, 1)
    leaking = TrainingSet(
        examples=[
            Example(clip_id="1", text="the answer", prompt_texts={"transcript": "the answer", "previous": "other"})
        ],
        input=picture,
        prompt=PROMPT,
        dropout={},
        seed=0,
    )
    assert leaking.prompt_text(0, 0) == "P: other\nDescribe."


def test_buckets_hold_every_row_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500).tolist()
    clock = Clock()
    sampler = BucketSampler([Example(clip_id=str(i), text="t") for i in range(500)], lengths, 8, seed=1, clock=clock)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(500))
    assert orders[0] != orders[1]
    batches = [[lengths[i] for i in orders[0][s : s + 8]] for s in range(0, 496, 8)]
    assert np.mean([max(b) - min(b) for b in batches]) < 0.3 * (max(lengths) - min(lengths))
    sampler.set_epoch(0)
    assert list(sampler) == orders[0]


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 2), (64, 2), (2_001, 2), (500, 8)])
def test_an_epochs_order_is_that_of_its_batches_as_lists(count: int, size: int) -> None:
    """As it is defined: blocks of 32 batches sorted by length, whole batches shuffled, the short one last."""
    lengths = np.random.default_rng(count).integers(5, 60, count)
    examples = [Example(clip_id=str(i), text="t") for i in range(count)]
    rng = np.random.default_rng([3, 31, 0])
    order, batches = rng.permutation(count), list[list[int]]()
    for start in range(0, count, 32 * size):
        part = order[start : start + 32 * size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches.extend(part[i : i + size].tolist() for i in range(0, len(part), size))
    short = batches.pop() if batches and len(batches[-1]) < size else []
    wanted = [row for index in rng.permutation(len(batches)) for row in batches[index]] + short
    assert list(BucketSampler(examples, lengths, size, 3, Clock())) == wanted


def test_an_epochs_order_takes_few_bytes_a_row() -> None:
    """Ten thousand small batches: lists of them took 80 bytes a row and more."""
    examples = [Example(clip_id=str(i), text="t") for i in range(20_000)]
    sampler = BucketSampler(examples, np.full(20_000, 3), 2, 0, Clock())
    tracemalloc.start()
    try:
        rows = iter(sampler)
        next(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 20_000


def test_of_a_clips_texts_an_epoch_shows_one_as_often_as_its_share() -> None:
    rows = [(str(i), share) for i in range(40) for share in ((1.0,) if i % 4 == 0 else (0.75, 0.15, 0.10))]
    examples = [Example(clip_id=clip, text=f"{share}", share=share) for clip, share in rows]
    clock = Clock()
    sampler = BucketSampler(examples, [3] * len(rows), 8, seed=5, clock=clock)
    seen: Counter[float] = Counter()
    for epoch in range(400):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(rows[i][0] for i in order) == sorted({clip for clip, _ in rows}), "each clip once"
        seen.update(rows[i][1] for i in order)
    assert len(sampler) == 40
    total = 400 * 30
    assert [seen[s] / total for s in (0.75, 0.15, 0.10)] == pytest.approx([0.75, 0.15, 0.10], abs=0.015)


@pytest.mark.slow
def test_pretraining_leaves_the_vision_tower_alone(tmp_path: Path) -> None:
    vlm, builder = fresh()
    before = weights(vlm)
    config = parse_config({"pretrain": {"num_steps": 2, "batch_size": 4}})
    result = trainers.pretrain(
        vlm,
        builder,
        config.pretrain,
        config.loss,
        data(),
        tmp_path / "model",
        precision="auto",
        sink=Sink(),
        held_out=data(3),
        human=data(2, group="human"),
    )
    after = weights(vlm)
    assert all(torch.equal(before[n], after[n]) for n in before if ".visual." in n)
    assert any(not torch.equal(before[n], after[n]) for n in before if ".visual." not in n)
    assert result.eval_loss is not None
    assert set(result.row_weight) <= set(range(12))
    loaded = weights(load_vlm(tmp_path / "model"))
    assert all(torch.equal(loaded[n], after[n]) for n in after)
    assert not [p for p in (tmp_path / "model").iterdir() if p.suffix in (".bin", ".pt")]


@pytest.mark.slow
def test_adapter_acts_comes_back_and_merges(tmp_path: Path) -> None:
    vlm, builder = fresh()
    config = parse_config({"finetune": {"num_steps": 3, "batch_size": 4, "merge": True}})
    pictures, prompts = [picture("1"), picture("2")], ["Describe."] * 2
    texts = [scenes.sample_scene(i).caption() for i in (1, 2)]
    base = mean_logprobs(vlm, builder, pictures, prompts, texts)
    trainers.finetune(vlm, builder, config.finetune, data(), tmp_path / "adapter", precision="auto", sink=Sink())
    assert {p.name for p in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    adapted = mean_logprobs(load_vlm(bundled_model(), tmp_path / "adapter"), builder, pictures, prompts, texts)
    merged = mean_logprobs(load_vlm(tmp_path / "merged"), builder, pictures, prompts, texts)
    assert (adapted > base).all(), "three steps on these very words make them likelier"
    np.testing.assert_allclose(merged, adapted, atol=1e-4)


@pytest.mark.slow
def test_an_adapter_is_the_same_in_any_folder(tmp_path: Path) -> None:
    """Its hash is in the keys of what it writes, and these seed what is sampled. One was killed, and went on."""
    digests = set()
    plan = parse_config({"finetune": {"num_steps": 2, "batch_size": 2, "save_every": 1}}).finetune

    def tune(place: Path) -> None:
        vlm = load_vlm(place / "model")
        torch.manual_seed(0)
        builder = InputBuilder(vlm.processor)
        trainers.finetune(vlm, builder, plan, data(2), place / "adapter", precision="auto", sink=Sink())

    for place in (tmp_path / "here", tmp_path / "there"):
        shutil.copytree(bundled_model(), place / "model")
        if place.name == "there":
            cut_off = killed(losses.build("mle"), 2, stop)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(losses, "build", lambda name, loss=cut_off: loss)
                with pytest.raises(Killed):
                    tune(place)
            assert [folder.name for folder in (place / "adapter.work").glob("checkpoint-*")] == ["checkpoint-1"]
        tune(place)
        out = place / "adapter"
        assert str(place) not in (out / "adapter_config.json").read_text()
        digests.add(folder_digest(out))
        vlm = load_vlm(place / "model", out)
        mean_logprobs(vlm, InputBuilder(vlm.processor), [picture("1")], ["Describe."], ["A."])
    assert len(digests) == 1


@pytest.mark.slow
def test_broken_weights_stop_the_training(tmp_path: Path) -> None:
    vlm, builder = fresh()
    with torch.no_grad():
        vlm.model.get_input_embeddings().weight[5] = float("nan")
    plan = TrainingPlan(num_steps=2, batch_size=4, learning_rate=1e-3)
    with pytest.raises(FlywheelError, match=r"step 0: the loss of rows .* is not finite"):
        train(vlm, builder, data(), losses.build("mle"), plan, tmp_path, sink=Sink(), label="t")


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number(tmp_path: Path) -> None:
    found = []
    for on in (False, True):
        vlm, builder = fresh()
        plan = TrainingPlan(num_steps=1, batch_size=4, learning_rate=1e-3, gradient_checkpointing=on)
        train(vlm, builder, data(), losses.build("mle"), plan, tmp_path / str(on), sink=Sink(), label="t")
        found.append(weights(vlm))
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_look_shows_peoples_texts_noise_on_them_and_held_out_ones(tmp_path: Path) -> None:
    """In eval mode, in this order.

    Noise stands in the input as it does in the targets, or a wrong word would confuse nobody.
    """
    vlm, builder = fresh()
    loss, seen = losses.build("adatailr", warmup_steps=0), Counter[str]()
    inputs: list[torch.Tensor] = []
    vlm.model.get_input_embeddings().register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone()))

    def spy(name: str) -> None:
        original = getattr(loss, name)

        def observe(logits: torch.Tensor, target: torch.Tensor, context: TokenContext) -> None:
            seen[name] += 1
            assert not vlm.model.training
            assert logits.shape[0] == len(target)
            assert context.group_N is not None
            assert set(context.group_N.tolist()) == {-1 if name == "observe_human" else 0}
            if name == "observe_corrupted":
                assert any("".join(map(str, target.tolist())) in "".join(map(str, row.tolist())) for row in inputs[-1])
            original(logits, target, context)

        setattr(loss, name, observe)

    for name in ("observe_human", "observe_corrupted", "observe_source"):
        spy(name)
    plan = TrainingPlan(num_steps=3, batch_size=5, learning_rate=1e-3, human_every=1)
    sink = Sink()
    result = train(
        vlm, builder, data(), loss, plan, tmp_path, sink=sink, label="t", human=data(4, 0.0, "human"), held_out=data(3)
    )
    # Before the first step no word of the group is known.
    assert (seen["observe_human"], seen["observe_source"]) == (12, 9)
    assert seen["observe_corrupted"] in (4, 8), "at the second look; at the third if noise was found"
    assert result.eval_loss is not None
    assert any("t/noise_rate/g" in values for values, _ in sink.logged)


@pytest.mark.slow
def test_texts_of_people_alone_and_output_that_is_no_number_in_evaluation(tmp_path: Path) -> None:
    vlm, builder = fresh()
    plan = TrainingPlan(num_steps=2, batch_size=4, learning_rate=1e-3)
    people = data(4, group="human")
    result = train(
        vlm,
        builder,
        people,
        losses.build("adatailr", warmup_steps=0),
        plan,
        tmp_path / "a",
        sink=Sink(),
        label="t",
        human=people,
    )
    assert result.steps == 2
    assert result.figures == {}
    torch.nn.init.constant_(vlm.model.lm_head.weight, float("nan"))
    still = TrainingPlan(num_steps=0, batch_size=4, learning_rate=0.0)
    with pytest.raises(FlywheelError, match=r"rows .* is not finite"):
        train(
            vlm, builder, people, losses.build("mle"), still, tmp_path / "b", sink=Sink(), label="t", held_out=data(3)
        )
