"""Pairs of texts: the loss is DPO's as full logits give it, no prompt gives either text away, resume is exact."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import Killed, killed, stop
from training_bed import PROMPT, Sink, calls_of_tower, data, examples, fresh, picture, weights

import trainers
from flywheel.core.config import parse_config
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import HUMAN, Example
from flywheel.models.inputs import ClipInput
from flywheel.models.load import Vlm, load_vlm
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from trainers import TrainingPlan, TrainingSet, checkpoints
from trainers.data import Clock
from trainers.lora import with_adapter
from trainers.pair_loss import CHOSEN, FILLER, LEARNED, REJECTED, PairLoss, PairScores, dpo_loss
from trainers.pairs import PairCollator, PairSampler
from trainers.training import train

BETA = 0.3


def pair_rows(count: int, weight: float = 1.0) -> list[Example]:
    """Each clip's own caption, and behind it another scene's."""
    rows = []
    for i in range(count):
        hints = {"transcript": f"words {i}", "previous": None}
        for text in (scenes.sample_scene(i).caption(), scenes.sample_scene(i + 50).caption() + " and a dog"):
            rows.append(Example(clip_id=str(i), text=text, prompt_texts=hints, group=HUMAN, weight=weight))
    return rows


def pair_data(count: int = 6, **more: Any) -> TrainingSet:
    return replace(data(rows=pair_rows(count)), **more)


def adapted() -> tuple[Vlm, Any]:
    """The bundled model with an adapter that is not zero, so that it differs from the model without it."""
    vlm, builder = fresh()
    torch.manual_seed(0)
    model = with_adapter(vlm.model, rank=4, alpha=8, dropout=0.0, target_modules=r".*language_model.*\.(q|v)_proj")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return replace(vlm, model=model), builder


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips went through the frozen tower at each call."""
    return calls_of_tower(monkeypatch)


def steps(folder: Path, texts: int, pairs: int, num_steps: int = 1, *, parts: int = 1, loss: Any = None, **plan: Any):  # type: ignore[no-untyped-def]
    vlm, builder = adapted()
    sink = Sink()
    training = TrainingPlan(
        num_steps=num_steps,
        batch_size=3,
        learning_rate=1e-2,
        save_every=2,
        log_every=1,
        parts=parts,
        warmup_share=0.0,
        **plan,
    )
    learned = data(rows=examples(texts, HUMAN) if texts else [])
    loss = loss or PairLoss(beta=BETA, weight=0.7)
    result = train(vlm, builder, learned, loss, training, folder, sink=sink, label="t", pairs=pair_data(pairs))
    return weights(vlm), sink, result


def logprob(vlm: Vlm, builder: Any, row: Example, prompt: str) -> float:
    """The text's summed log-prob from full logits, in float64."""
    batch = builder.build([picture(row.clip_id)], [prompt], [row.text])
    labels = batch.pop("labels")[0, 1:]
    with torch.no_grad():
        logits = vlm.model(**batch).logits[0, :-1].double()
    picked = logits.log_softmax(-1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return float(picked[labels != -100].sum())


def written_out(texts: Sequence[int], pairs: Sequence[int], num_texts: int, pair_weight: float) -> tuple[float, float]:
    """The loss of a step of these texts and pairs in its first epoch, and their mean margin."""
    vlm, builder = adapted()
    both, learned = pair_data(6), data(rows=examples(max(1, num_texts), HUMAN))
    margins = []
    for pair in pairs:
        chosen, rejected = both.examples[2 * pair], both.examples[2 * pair + 1]
        prompt = both.prompt_of(chosen, num_texts + pair, 0, also=rejected.text)
        now = [logprob(vlm, builder, row, prompt) for row in (chosen, rejected)]
        with vlm.model.disable_adapter():
            base = [logprob(vlm, builder, row, prompt) for row in (chosen, rejected)]
        margins.append(BETA * ((now[0] - base[0]) - (now[1] - base[1])))
    nll, tokens = 0.0, 0
    for text in texts:
        row = learned.examples[text]
        nll -= logprob(vlm, builder, row, learned.prompt_text(text, 0))
        tokens += len(builder.tokenizer.encode(row.text, add_special_tokens=False)) + 1
    of_pairs = sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)
    return nll / max(1, tokens) + pair_weight * of_pairs, sum(margins) / len(margins)


@pytest.mark.slow
def test_a_step_is_what_full_logits_in_float64_give(tmp_path: Path) -> None:
    """Three pairs alone, then three beside three texts: the pairs' mean and the texts' mean per token."""
    _, sink, _ = steps(tmp_path / "alone", 0, 3)
    loss, margin = written_out([], range(3), 0, 0.7)
    logged = sink.logged[0][0]
    assert logged["t/loss"] == pytest.approx(loss, abs=2e-4)
    assert logged["t/margin"] == pytest.approx(margin, abs=2e-4)
    assert abs(margin) > 0.01, "or the adapter does nothing, and the loss is log 2"
    _, sink, _ = steps(tmp_path / "both", 3, 3)
    loss, margin = written_out(range(3), range(3), 3, 0.7)
    assert sink.logged[0][0]["t/loss"] == pytest.approx(loss, abs=2e-4)
    assert sink.logged[0][0]["t/margin"] == pytest.approx(margin, abs=2e-4)


def test_the_formula_is_that_of_the_paper() -> None:
    scores = PairScores(
        chosen_P=torch.tensor([-3.0, -4.0], dtype=torch.float64),
        rejected_P=torch.tensor([-5.0, -1.0], dtype=torch.float64),
        base_chosen_P=torch.tensor([-4.0, -4.0], dtype=torch.float64),
        base_rejected_P=torch.tensor([-4.5, -2.0], dtype=torch.float64),
    )
    wanted = [math.log1p(math.exp(-0.5 * (1.0 + 0.5))), math.log1p(math.exp(-0.5 * (0.0 - 1.0)))]
    assert dpo_loss(scores, 0.5).tolist() == pytest.approx(wanted, abs=1e-12)
    loss = PairLoss(beta=0.5, weight=2.0)
    assert float(loss.of_pairs(scores, torch.tensor([1.0, 0.5], dtype=torch.float64))) == pytest.approx(
        2 * (wanted[0] + 0.5 * wanted[1])
    )
    loss.step()
    figures = {"chosen_reward": 0.25, "rejected_reward": 0.125, "margin": 0.125, "pair_accuracy": 0.5}
    assert loss.figures() == pytest.approx(figures)
    again = PairLoss(beta=0.5, weight=2.0)
    again.load_state_dict(loss.state_dict())
    assert again.figures() == loss.figures()


@pytest.mark.slow
def test_parts_of_a_step_learn_what_the_whole_step_learns(tmp_path: Path) -> None:
    whole, sink, _ = steps(tmp_path / "whole", 8, 5, 2)
    parts, other, _ = steps(tmp_path / "parts", 8, 5, 2, parts=2)
    for (a, _), (b, _) in zip(sink.logged[:2], other.logged[:2], strict=True):
        assert b["t/loss"] == pytest.approx(a["t/loss"], abs=1e-5)
        assert b["t/margin"] == pytest.approx(a["t/margin"], abs=1e-5)
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-4


@pytest.mark.slow
def test_features_that_are_kept_change_nothing(tmp_path: Path, through: list[int]) -> None:
    plain, _, _ = steps(tmp_path / "plain", 3, 3, 2)
    assert through == []
    kept, _, _ = steps(tmp_path / "kept", 3, 3, 2, features_bytes=1 << 30)
    # As test_features has it; both texts of a pair, and texts to learn of the same clips, have one clip's.
    assert through == [1, 1, 1, 2, *[1] * 3]
    for name, weight in plain.items():
        torch.testing.assert_close(kept[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_killed_training_on_pairs_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, _, wanted = steps(tmp_path / "whole", 4, 5, 4)
    with pytest.raises(Killed):
        steps(tmp_path / "cut", 4, 5, 4, loss=killed(PairLoss(beta=BETA, weight=0.7), 4, stop))
    resumed, _, result = steps(tmp_path / "cut", 4, 5, 4)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert (result.loss, result.figures) == (wanted.loss, wanted.figures)
    assert set(result.figures) == {"chosen_reward", "rejected_reward", "margin", "pair_accuracy"}


@pytest.mark.slow
def test_pairs_are_learned_and_the_adapter_is_what_it_says(tmp_path: Path) -> None:
    """By pairs alone: on clips it learned from, the model prefers nearly all better texts; without the adapter not."""
    vlm, builder = fresh()
    plan = parse_config({"finetune": {"num_steps": 14, "batch_size": 3, "learning_rate": 3e-3}}).finetune
    sink, nothing = Sink(), data(rows=[])
    result = trainers.finetune(
        vlm, builder, plan, nothing, tmp_path / "adapter", precision="auto", sink=sink, pairs=pair_data(6)
    )
    assert result.figures["pair_accuracy"] > 0.8
    assert result.figures["margin"] > 0.5
    margins = [values["finetune/margin"] for values, _ in sink.logged if "finetune/margin" in values]
    assert margins[-1] == result.figures["margin"]
    loaded = load_vlm(bundled_model(), tmp_path / "adapter")
    row = pair_rows(1)[0]
    prompt = data(rows=[row]).prompt_text(0, 0)
    vlm.model.eval()
    assert logprob(loaded, builder, row, prompt) == pytest.approx(logprob(vlm, builder, row, prompt), abs=1e-4)
    assert json.loads((tmp_path / "adapter.work" / "texts.json").read_text()) == "pairs"
    with pytest.raises(UserError, match=r"checkpoints learned from pairs, and this training would from texts\+pairs"):
        checkpoints.same_texts(tmp_path / "adapter.work", "texts+pairs")


def test_a_pair_whose_pixels_are_kept_is_not_read_again() -> None:
    reads: list[str] = []

    def read(clip_id: str) -> ClipInput:
        reads.append(clip_id)
        return picture(clip_id)

    pairs = pair_data(1, input=read, frames_alone=True)
    collator = PairCollator(data(rows=[]), pairs, _text_builder(), Clock(), "training", shares=True)
    first = collator([0])
    assert reads == ["0"], "once for both texts"
    again = collator([0])
    assert reads == ["0"]
    assert first["part"].tolist() == [CHOSEN, REJECTED]
    assert all(torch.equal(first[name], value) for name, value in again.items())
    sound = PairCollator(data(rows=[]), replace(pairs, frames_alone=False), _text_builder(), Clock(), "t", shares=True)
    for _ in range(2):
        assert torch.equal(sound([0])["input_ids"], first["input_ids"])
    assert reads == ["0"] * 3


def test_the_prompt_of_a_pair_holds_neither_text() -> None:
    row = Example(clip_id="1", text="a better text", prompt_texts={"transcript": "t", "previous": "a worse text"})
    pairs = TrainingSet(examples=[row], input=picture, prompt=PROMPT, dropout={}, seed=0)
    assert pairs.prompt_of(row, 0, 0) == "T: t\nP: a worse text\nDescribe."
    assert pairs.prompt_of(row, 0, 0, also="a worse text") == "T: t\nDescribe."


def test_a_batch_says_what_each_text_is_and_leaves_out_unreadable_clips_whole() -> None:
    def readable(clip_id: str) -> ClipInput:
        if clip_id == "1":
            raise MediaError("is gone")
        return ClipInput(key=clip_id, duration_s=1.0, fps=1.0)

    builder = _text_builder()
    texts, pairs = replace(data(rows=examples(2, HUMAN)), input=readable), replace(pair_data(3), input=readable)
    collator = PairCollator(texts, pairs, builder, Clock(), "training", shares=True)
    assert len(collator) == 5
    batch = collator([0, 2, 4])
    assert batch["part"].tolist() == [LEARNED, CHOSEN, REJECTED, CHOSEN, REJECTED]
    assert batch["row"].tolist() == [0, 2, 2, 4, 4]
    assert collator([3, 2, 1])["part"].tolist() == [CHOSEN, REJECTED], "both texts of clip 1, and it as one to learn"
    assert collator.unreadable == {"1": "is gone"}
    assert set(collator([-1])["part"].tolist()) == {FILLER}
    assert set(collator([3])["part"].tolist()) == {FILLER}, "another clip's, of which nothing is learned"


def _text_builder() -> Any:
    from flywheel.models.inputs import InputBuilder
    from flywheel.models.load import load_processor

    return InputBuilder(load_processor(bundled_model(), frozenset()))


@pytest.mark.parametrize(("texts", "pairs"), [(7, 3), (3, 7), (4, 4), (0, 5), (5, 0)])
def test_steps_have_as_many_pairs_as_texts(texts: int, pairs: int) -> None:
    builder = _text_builder()
    learned, compared = data(rows=examples(texts, HUMAN)), data(rows=pair_rows(pairs))
    sampler = PairSampler(learned, compared, builder, 2, seed=1)
    rows = list(sampler)
    assert len(rows) == len(sampler)
    assert set(rows) == set(range(texts + pairs)), "each at least once"
    if texts and pairs:
        assert all(row < texts for row in rows[::2])
        assert all(row >= texts for row in rows[1::2])
        counts = np.bincount(rows, minlength=texts + pairs)
        assert counts[:texts].max() - counts[:texts].min() <= 1
    others = []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        others.append(list(sampler))
    # Five of two a batch have two orders alone.
    assert [rows, rows] != others or texts + pairs == 5
    sampler.set_epoch(0)
    assert list(sampler) == rows
    sampler.end()
    assert list(sampler) == []
