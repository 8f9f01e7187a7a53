"""The mixture rule: what it finds, in which groups, and that it finds nothing where nothing is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from noise_control import IGNORED, TokenContext, losses
from noise_control.rules._state import State
from noise_control.rules.mixture import Mixture

WORDS, LENGTH, CLIPS = 24, 5, 12


def clean(seed: int = 0) -> torch.Tensor:
    """p(word | clip, place), (CLIPS, LENGTH, WORDS): sharp, and different for each clip."""
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(CLIPS, LENGTH, WORDS, generator=generator, dtype=torch.float64)).softmax(-1)


def captions(p: torch.Tensor, clips: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.multinomial(p[clips].reshape(-1, WORDS), 1, generator=generator).reshape(-1, LENGTH)


def noisy(texts: torch.Tensor, kind: str, rate: float, generator: torch.Generator) -> torch.Tensor:
    if kind == "substitution":
        hit = torch.rand(texts.shape, generator=generator) < rate
        return torch.where(hit, torch.randint(0, WORDS, texts.shape, generator=generator), texts)
    hit = torch.rand(len(texts), 1, generator=generator) < rate
    phrase = torch.tensor([3, 1, 4, 1, 5]).expand(len(texts), -1)
    other = texts[torch.randperm(len(texts), generator=generator)]
    return torch.where(hit, phrase if kind == "fixed phrase" else other, texts)


def look(loss: Any, logits: torch.Tensor, target: torch.Tensor, sequence: torch.Tensor) -> None:
    """Show people's texts, and the same with noise words in them.

    The logits of this table do not depend on earlier words.
    """
    loss.observe_human(logits, target, TokenContext(sequence_N=sequence))
    for group, replaced in loss.corrupted(target, TokenContext(sequence_N=sequence)):
        loss.observe_corrupted(
            logits, replaced, TokenContext(sequence_N=sequence, group_N=torch.full_like(target, group))
        )


def taught(
    kind: str, rate: float, *, steps: int = 200, people: bool = True, groups: int = 1, seed: int = 1, **arguments: Any
) -> tuple[Mixture, torch.Tensor]:
    """A table taught by adatailr; the loss, and the table's distance to the truth.

    With two groups, the second is clean.
    """
    generator, p = torch.Generator().manual_seed(seed), clean()
    loss = losses.build("adatailr", buckets=1 << 12, **arguments)
    assert isinstance(loss, Mixture)
    loss.prepare(num_groups=groups)
    table = torch.zeros(CLIPS * LENGTH, WORDS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.1)
    anchor_clips = torch.randint(0, CLIPS, (60,), generator=generator)
    anchors, anchor_sequence = captions(p, anchor_clips, generator), torch.arange(60).repeat_interleave(LENGTH)
    place = torch.arange(LENGTH)
    for step in range(steps):
        if people and step % 20 == 0:
            rows = (anchor_clips[:, None] * LENGTH + place).reshape(-1)
            look(loss, table.detach()[rows], anchors.reshape(-1), anchor_sequence)
        clips = torch.randint(0, CLIPS, (96,), generator=generator)
        group = torch.arange(96) % groups
        right = captions(p, clips, generator)
        texts = torch.where(group[:, None] == 0, noisy(right, kind, rate, generator) if rate else right, right)
        sequence = torch.arange(96).repeat_interleave(LENGTH)
        context = TokenContext(sequence_N=sequence, group_N=group[sequence])
        value = loss(table[(clips[:, None] * LENGTH + place).reshape(-1)], texts.reshape(-1), context)
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
        loss.step()
    learned = table.detach().softmax(-1).reshape(p.shape)
    return loss, 0.5 * (learned - p).abs().sum(-1).mean()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["other clip", pytest.param("fixed phrase", marks=pytest.mark.slow)])
def test_wrong_texts_are_found_and_not_learned(kind: str) -> None:
    loss, distance = taught(kind, 0.4)
    figures = loss.figures()
    assert figures["wrong_texts/0"] == pytest.approx(0.4, abs=0.06)
    assert figures["noise_words/0"] < 0.05
    _, plain = taught(kind, 0.4, people=False)
    assert distance < 0.5 * plain, (distance, plain)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_noise_words_are_found_and_not_learned() -> None:
    loss, distance = taught("substitution", 0.4)
    figures = loss.figures()
    assert figures["noise_words/0"] == pytest.approx(0.4, abs=0.08)
    assert figures["wrong_texts/0"] == 0
    assert figures["noise_rate_error/0"] < 0.05
    _, plain = taught("substitution", 0.4, people=False)
    assert distance < 0.75 * plain, (distance, plain)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_nothing_is_found_where_nothing_is() -> None:
    loss, distance = taught("clean", 0.0)
    assert float(loss.noise_rates()[0]) < 0.06
    _, plain = taught("clean", 0.0, people=False)
    assert distance < plain + 0.01


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_each_group_has_its_own_rate() -> None:
    loss, _ = taught("other clip", 0.4, groups=2)
    noisy_rate, clean_rate = loss.noise_rates().tolist()
    assert noisy_rate == pytest.approx(0.4, abs=0.08)
    assert clean_rate < 0.06


@pytest.mark.slow
def test_what_was_learned_by_heart_is_seen_in_texts_that_were_held_out() -> None:
    """A model that has memorized its training texts scores wrong ones above people's: only held-out texts tell."""
    p, found = clean(), []
    for held_out in (False, True):
        generator = torch.Generator().manual_seed(7)
        loss = losses.build("adatailr", warmup_steps=0, buckets=1 << 12)

        def drawn(
            count: int, wrong: float, generator: torch.Generator = generator
        ) -> tuple[torch.Tensor, torch.Tensor]:
            clips = torch.randint(0, CLIPS, (count,), generator=generator)
            return clips, noisy(captions(p, clips, generator), "other clip", wrong, generator)

        def knows(clips: torch.Tensor, texts: torch.Tensor, by_heart: float) -> torch.Tensor:
            onehot = torch.nn.functional.one_hot(texts, WORDS).double()
            return ((1 - by_heart) * (0.7 * p[clips] + 0.3 / WORDS) + by_heart * onehot).log().reshape(-1, WORDS)

        def context(count: int) -> TokenContext:
            sequence = torch.arange(count).repeat_interleave(LENGTH)
            return TokenContext(sequence_N=sequence, group_N=torch.zeros_like(sequence))

        people, held = drawn(60, 0.0), drawn(60, 0.4)
        for step in range(60):
            if step % 10 == 0:
                look(loss, knows(*people, 0.0), people[1].reshape(-1), context(60).sequence_N)  # type: ignore[arg-type]
                if held_out:
                    loss.observe_source(knows(*held, 0.0), held[1].reshape(-1), context(60))
            taught_texts = drawn(80, 0.4)
            loss(knows(*taught_texts, 0.8), taught_texts[1].reshape(-1), context(80))
            loss.step()
        found.append(loss.figures()["noise_rate/0"])
    assert found[0] == 0, "or held-out texts are not needed"
    assert found[1] == pytest.approx(0.4, abs=0.12)


@pytest.mark.usefixtures("unchecked")
def test_without_people_it_is_cross_entropy_to_the_bit() -> None:
    loss, _ = taught("other clip", 0.4, people=False, steps=60)
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(10, WORDS, generator=generator), torch.randint(0, WORDS, (10,), generator=generator)
    target[2] = IGNORED
    plain = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
    assert torch.equal(loss(logits, target), plain)
    assert loss.noise_rates().tolist() == [0.0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_floor_and_levels() -> None:
    loss, _ = taught("other clip", 0.4, floor=0.2)
    assert float(loss.last_weight_N.min()) >= 0.2
    assert taught("other clip", 0.4, levels="words")[0].figures()["wrong_texts/0"] == 0
    assert taught("substitution", 0.4, levels="texts")[0].figures()["noise_words/0"] == 0


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator, p = torch.Generator().manual_seed(5), clean()
    out = []
    for _ in range(count):
        clips = torch.randint(0, CLIPS, (40,), generator=generator)
        texts = noisy(captions(p, clips, generator), "other clip", 0.4, generator)
        out.append(((p[clips] + 0.02).log().reshape(-1, WORDS), texts.reshape(-1), clips))
    return out


def show(loss: Any, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], half: slice = slice(None)) -> torch.Tensor:
    logits, target, clips = batch
    keep = torch.zeros(40, dtype=torch.bool)
    keep[half] = True
    tokens = keep.repeat_interleave(LENGTH)
    sequence, row = torch.arange(40).repeat_interleave(LENGTH), clips.repeat_interleave(LENGTH)
    context = TokenContext(sequence_N=sequence[tokens], row_N=row[tokens], group_N=(sequence % 2)[tokens])
    loss(logits[tokens], target[tokens], context)
    return loss.last_weight_N


def people_of(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], seed: int
) -> tuple[torch.Tensor, torch.Tensor, TokenContext]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.multinomial(batch[0].softmax(-1), 1, generator=generator)[:, 0]
    return batch[0], target, TokenContext(sequence_N=torch.arange(40).repeat_interleave(LENGTH))


def step_together(ranks: list[Any]) -> None:
    """A step of each of two ranks, which wait for each other's sums as real ones do."""
    sent: dict[int, torch.Tensor] = {}
    barrier = threading.Barrier(2, timeout=10)

    def step(rank: int) -> None:
        def all_reduce(table: torch.Tensor) -> torch.Tensor:
            sent[rank] = table
            barrier.wait()
            total = sent[0] + sent[1]
            barrier.wait()
            return total

        ranks[rank].step(all_reduce)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(step, range(2)))


def test_a_rank_without_a_text_in_the_first_step_goes_on_with_the_others() -> None:
    """Its clips could not be read: it adds nothing, and knows afterwards what the other counted."""
    whole, *ranks = (losses.build("adatailr", warmup_steps=0, buckets=1 << 8) for _ in range(3))
    for loss in (whole, *ranks):
        loss.prepare(num_groups=2)
    step_together(ranks)
    assert not any(loss.state_dict() for loss in ranks), "nobody had one: nothing was counted"
    for index, batch in enumerate(batches(2)):
        show(whole, batch)
        whole.step()
        halves = [slice(40), None] if index == 0 else [slice(20), slice(20, 40)]
        for loss, half in zip(ranks, halves, strict=True):
            if half is not None:
                show(loss, batch, half)
        step_together(ranks)
    state = whole.state_dict()
    assert int(state["steps"]) == 2
    assert state["counts.words"].sum() > 0
    for loss in ranks:
        for name, table in loss.state_dict().items():
            torch.testing.assert_close(table, state[name], rtol=1e-9, atol=1e-12)


def test_a_state_made_before_its_device_was_known_comes_along_whole() -> None:
    state = State.empty(2, 5, 8, 0.9, torch.device("cpu"))
    state.load({name: torch.rand_like(table) for name, table in state.saved().items()})
    moved = state.moved(torch.device("cpu"))
    assert moved.text_model.counts.words.data_ptr() != state.text_model.counts.words.data_ptr()
    assert all(torch.equal(moved.saved()[name], table) for name, table in state.saved().items())


def test_a_look_at_texts_of_which_none_can_be_read_shows_nothing() -> None:
    loss = losses.build("adatailr", warmup_steps=0, buckets=1 << 8)
    loss.prepare(num_groups=2)
    (batch,) = batches(1)
    show(loss, batch)
    loss.step()
    logits, target, _ = batch
    before = {name: table.clone() for name, table in loss.state_dict().items()}
    for none in (target[:0], torch.full_like(target, IGNORED)):
        look(loss, logits[: len(none)], none, torch.arange(40).repeat_interleave(LENGTH)[: len(none)])
        assert loss.corrupted(none, TokenContext(sequence_N=torch.zeros_like(none))) == []
    assert all(torch.equal(loss.state_dict()[name], table) for name, table in before.items())
    assert loss.corrupted(target, TokenContext(sequence_N=torch.zeros_like(target))), "or nothing was compared"


@pytest.mark.slow
def test_ranks_agree_with_one_process() -> None:
    """Two ranks with half a batch each measure what one process with the whole measures, to rounding."""
    whole, *ranks = (losses.build("adatailr", warmup_steps=0, buckets=1 << 10) for _ in range(3))
    for loss in (whole, *ranks):
        loss.prepare(num_groups=2)
    for index, batch in enumerate(batches(24)):
        for loss in (whole, *ranks):
            if index % 4 == 0:
                loss.observe_human(*people_of(batch, index))
        show(whole, batch)
        halves = [show(loss, batch, slice(20 * r, 20 * r + 20)) for r, loss in enumerate(ranks)]
        torch.testing.assert_close(torch.cat(halves), whole.last_weight_N, rtol=1e-6, atol=1e-9)
        whole.step()
        step_together(ranks)
    for loss in ranks:
        torch.testing.assert_close(loss.noise_rates(), whole.noise_rates(), rtol=1e-9, atol=1e-12)
    assert whole.noise_rates().min() > 0.03, "or nothing was compared"


@pytest.mark.slow
def test_a_resumed_loss_goes_on_exactly() -> None:
    first = losses.build("adatailr", warmup_steps=0, buckets=1 << 10)
    first.prepare(num_groups=2)
    second = None
    for index, batch in enumerate(batches(24)):
        for loss in (first, second):
            if loss is not None and index % 4 == 0:
                loss.observe_human(*people_of(batch, index))
        one = show(first, batch)
        if second is not None:
            assert torch.equal(show(second, batch), one)
            second.step()
        first.step()
        if index == 13:
            second = losses.build("adatailr", warmup_steps=0, buckets=1 << 10)
            second.load_state_dict({name: table.clone() for name, table in first.state_dict().items()})
    assert second is not None
    assert first.figures() == second.figures()


def test_checkpoints_keep_their_names_and_columns() -> None:
    """What older versions saved is what this one reads: keys, and the columns that several figures share."""
    loss = losses.build("adatailr", warmup_steps=0, buckets=1 << 10)
    loss.prepare(num_groups=2)
    for index, batch in enumerate(batches(9)):
        if index % 4 == 0:
            loss.observe_human(*people_of(batch, index))
        show(loss, batch)
        loss.step()
    state = loss.state_dict()
    counts = ["words", "before", "bigrams", "places", "placed", "visits", "repeats", "suspected", "agreement", "scores"]
    measured = ["noise", "word_rate", "text_rate", "error", "centre", "right", "wrong", "trials"]
    assert set(state) == {
        "steps",
        *(f"counts.{name}" for name in counts),
        *(f"human.{name}" for name in ("agreement", "scores", "corrupted", "repeats")),
        *(f"held.{name}" for name in ("agreement", "scores")),
        *(f"last.{name}" for name in ("agreement", "scores", "corrupted")),
        *(f"stretches.{n}" for n in ("agreement", "scores", "human_agreement", "human_scores", "corrupted")),
        *(f"found.{name}" for name in (*measured, "repeated_rate", "repeated", "total")),
    }
    shapes = {"counts.agreement": 3, "last.agreement": 4, "last.scores": 2, "last.corrupted": 4, "found.right": 2}
    assert {name: tuple(state[name].shape) for name in shapes} == {name: (2, size) for name, size in shapes.items()}
    texts = state["last.agreement"][:, 3]
    assert texts.tolist() == [1.0, 1.0], "the last column of people's agreement is their number"
    assert (state["found.noise"].sum(1) - 1).abs().max() < 1e-9


@pytest.mark.slow
def test_padding_touches_nothing_and_the_vocabulary_must_stay() -> None:
    first, second = (losses.build("adatailr", warmup_steps=0, buckets=1 << 10) for _ in range(2))
    for index, (logits, target, _) in enumerate(batches(8)):
        sequence = torch.arange(40).repeat_interleave(LENGTH)
        padded = torch.cat([target, torch.full((7,), IGNORED)])
        more = torch.cat([logits, torch.randn(7, WORDS, dtype=torch.float64)])
        more_sequence = torch.cat([sequence, torch.full((7,), 40)])
        if index % 2 == 0:
            first.observe_human(*people_of((logits, target, sequence), index))
            h, t, _ = people_of((logits, target, sequence), index)
            second.observe_human(
                torch.cat([h, more[-7:]]), torch.cat([t, padded[-7:]]), TokenContext(sequence_N=more_sequence)
            )
        first(logits, target, TokenContext(sequence_N=sequence))
        second(more, padded, TokenContext(sequence_N=more_sequence))
        first.step()
        second.step()
    for name, table in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], table), name
    with pytest.raises(ValueError, match="the vocabulary was 24"):
        first(torch.randn(2, 9), torch.tensor([1, 2]))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_no_gradient_through_what_adapts() -> None:
    loss, _ = taught("other clip", 0.4, steps=120)
    logits, target, _ = batches(1)[0]
    logits = logits.clone().requires_grad_()
    loss(logits, target, TokenContext(sequence_N=torch.arange(40).repeat_interleave(LENGTH))).sum().backward()
    q = logits.detach().softmax(-1)
    onehot = torch.nn.functional.one_hot(target, WORDS)
    assert loss.last_weight_N.min() < 0.5
    torch.testing.assert_close(logits.grad, loss.last_weight_N[:, None] * (q - onehot), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["mixture", "sharpness"])
def test_peoples_texts_are_never_doubted(rule: str) -> None:
    """Group -1: its weight is one and it enters no statistic, whatever the other groups are."""
    first, second = (losses.build("adatailr", rule=rule, warmup_steps=0) for _ in range(2))
    for index, (logits, target, clips) in enumerate(batches(24)):
        sequence = torch.arange(40).repeat_interleave(LENGTH)
        for loss in (first, second):
            if index % 4 == 0:
                loss.observe_human(*people_of((logits, target, clips), index))
        first(logits, target, TokenContext(sequence_N=sequence, group_N=torch.zeros_like(sequence)))
        people = torch.cat([torch.zeros_like(sequence), torch.full_like(sequence, -1)])
        both = TokenContext(sequence_N=torch.cat([sequence, sequence + 40]), group_N=people)
        second(torch.cat([logits, -logits]), torch.cat([target, target]), both)
        assert (second.last_weight_N[len(target) :] == 1).all()
        first.step()
        second.step()
    assert second.last_weight_N.min() < 0.95, "or nothing was doubted"
    for name, table in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], table, rtol=1e-12, atol=1e-12)
