"""Triton's kernels in its interpreter, against float64: `test_kernels.py` runs this in a process that has Triton.

Small on purpose: the interpreter takes a millisecond for what a GPU does in none. Blocks are 16 words, so that rows of
21 words have a whole one and a part of one.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from noise_control import IGNORED, TokenContext, TokenLoss, linear_loss, losses
from noise_control.kernels import rows as kernels

COUNT, HIDDEN, WORDS = 7, 4, 21
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("mle", {}),
    ("tailr", {"gamma": 0.3, "smoothing": 0.1}),
    ("label_smoothing", {"amount": 0.2}),
    ("gce", {}),
    ("dft", {}),
    ("loss_truncation", {"warmup_steps": 0}),
    ("error_norm_truncation", {"warmup_steps": 0, "share": 0.3}),
    ("adatailr", {"rule": "sharpness", "warmup_steps": 0}),
    ("adatailr", {"warmup_steps": 0, "buckets": 64}),
]
REDUCTIONS = ("none", "sum", "mean")
UPSTREAM = torch.linspace(-1, 2, COUNT, dtype=torch.float64)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", 16)
    monkeypatch.setattr(kernels, "SCALED", 32)


def inputs(words: int = WORDS, count: int = COUNT, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(words + count)
    shapes = ((count, HIDDEN), (words, HIDDEN), (words,))
    h, w, b = (torch.randn(*shape, generator=generator).to(dtype) for shape in shapes)
    target = torch.randint(0, words, (count,), generator=generator)
    target[3 % count] = IGNORED if count > 1 else target[0]
    return h, w, b, target


def context(length: int) -> TokenContext:
    sequence = torch.arange(COUNT) // length
    scale = torch.linspace(0, 2, COUNT, dtype=torch.float64)  # The first token's weight is zero.
    return TokenContext(sequence_N=sequence, row_N=sequence, scale_N=scale)


def adapted(name: str, arguments: dict[str, Any]) -> TokenLoss:
    """A loss of its own each time."""
    return copy.deepcopy(_adapted(name, tuple(arguments.items())))


@lru_cache
def _adapted(name: str, arguments: tuple[tuple[str, Any], ...]) -> TokenLoss:
    """The loss after two steps and looks at texts that fit better than the group's: it has found noise."""
    loss = losses.build(name, **dict(arguments))
    h, w, b, target = (x.double() if x.is_floating_point() else x for x in inputs())
    told, logits = context(3), 2 * (h @ w.T + b)
    for _ in range(3):
        loss(logits, target, told)
        loss.step()
        loss.observe_human(logits, logits.argmax(-1), TokenContext(sequence_N=told.sequence_N))
        loss.observe_source(logits, target, told)
        loss.step()
    return loss


def both(
    tensors: tuple[Tensor, ...],
    target: Tensor,
    build: Any,
    reduction: str = "sum",
    upstream: Tensor | None = None,
    **given: Any,
) -> list[tuple[Tensor, tuple[Tensor, ...], Tensor]]:
    """Value, gradients and weights: by Triton in the tensors' type, by full logits in float64."""
    out = []
    upstream = UPSTREAM[: len(target)] if upstream is None else upstream
    for exact in (False, True):
        h, w, *b = (x.detach().to(torch.float64 if exact else x.dtype).requires_grad_() for x in tensors)
        loss = build()
        if exact:
            cap, told = given.get("soft_cap"), given.get("context")
            logits = torch.nn.functional.linear(h, w, *b)
            logits = logits if cap is None else cap * torch.tanh(logits / cap)
            value_N = loss(logits, target, told)
            divisor = max(1, int((target != IGNORED).sum())) if reduction == "mean" else 1
            value = value_N if reduction == "none" else value_N.sum() / divisor
        else:
            bias = b[0] if b else None
            value = linear_loss(h, w, target, loss, bias, reduction=reduction, backend="triton", **given)  # type: ignore[arg-type]
        wanted = (value * upstream.to(value.dtype)).sum() if reduction == "none" else value * 2
        gradients = torch.autograd.grad(wanted, (h, w, *b))
        assert loss.last_weight_N is not None
        out.append((value.detach().double(), tuple(g.double() for g in gradients), loss.last_weight_N.double()))
    return out


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("number", range(len(LOSSES)), ids=lambda i: LOSSES[i][0])
def test_equals_float64(number: int, reduction: str) -> None:
    """Every loss in every reduction; the options go round."""
    turn = number + 2 * REDUCTIONS.index(reduction)
    h, w, b, target = inputs(words=(WORDS, 32)[turn % 2])
    name, arguments = LOSSES[number]
    found, wanted = both(
        (h, w, b) if turn % 3 else (h, w),
        target,
        # What adapts has seen so many words.
        lambda: adapted(name, arguments) if len(w) == WORDS else losses.build(name, **arguments),
        reduction,
        soft_cap=(None, 3.0)[turn // 2 % 2],
        context=context((3, 5)[turn // 3 % 2]),
        chunk_rows=(4, None, 3)[turn % 3],
        weight_gradient=("auto", "float32")[number % 2],
    )
    assert distance(found[0], wanted[0]) < 1e-6
    for mine, exact in zip(found[1], wanted[1], strict=True):
        assert distance(mine, exact) < 1e-5
    torch.testing.assert_close(found[2], wanted[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sharpness", "mixture"])
def test_what_adapts_has_adapted(name: str) -> None:
    """Else the cases above would be of plain likelihood."""
    loss = adapted(
        *next(given for given in LOSSES if given[1].get("rule", "mixture") == name and given[0] == "adatailr")
    )
    rates = [value for key, value in loss.figures().items() if key.startswith("noise_rate/")]
    assert rates[0] > 0.1


@pytest.mark.parametrize("wide", ["own", "float32"])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_bfloat16_within_its_rounding(number: int, wide: str) -> None:
    """A logit z is off by |z|/512, its slope by as much, and by 1/512 for each rounding of what follows."""
    h, w, b, target = inputs(dtype=torch.bfloat16)
    found, wanted = both(
        (h, w, b), target, lambda: adapted(*LOSSES[number]), "mean", chunk_rows=4, weight_gradient=wide
    )
    highest = float((h.double() @ w.double().T + b.double()).abs().max())
    assert distance(found[0], wanted[0]) < (highest + 1) / 512
    for mine, exact in zip(found[1], wanted[1], strict=True):
        assert distance(mine, exact) < (2 * highest + 3) / 512


@pytest.mark.parametrize("number", [0, 1, 6, 7])
def test_extreme_logits(number: int) -> None:
    """Logits of +-1e4, words that are masked out, and a target among them."""
    h = torch.tensor([[1e4, 0], [-1e4, 0], [0, 1.0], [0, 0]])
    w = torch.stack([torch.linspace(-64, 64, WORDS).round() / 64, torch.linspace(0, 2, WORDS)], 1)
    bias = torch.zeros(WORDS)
    bias[5:17] = -torch.inf
    target = torch.tensor([20, 0, 18, 20])
    # With a cap no word is impossible.
    for given in ({}, {"soft_cap": 30.0}):
        for told in (target, torch.tensor([20, 0, 7, IGNORED])):
            if given and told is not target:
                continue
            found, wanted = both(
                (h, w, bias), told, lambda: losses.build(*LOSSES[number][:1], **LOSSES[number][1]), "none", **given
            )
            torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=1e-6)
            for mine, exact in zip(found[1][:2], wanted[1][:2], strict=True):
                assert mine.isfinite().all()
                torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_nothing_to_learn_from_and_little(count: int) -> None:
    h, w, b, target = inputs(count=max(1, count))
    for ignored in (True, False):
        told = torch.full_like(target, IGNORED)[:count] if ignored else target[:count]
        for reduction in REDUCTIONS:
            found, wanted = both((h[:count], w, b), told, lambda: losses.build("mle"), reduction)
            torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=1e-9)
            for mine, exact in zip(found[1], wanted[1], strict=True):
                torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-6)


def test_rows_that_are_ignored_or_no_words() -> None:
    """Nothing of an ignored row reaches a gradient, not even of one without a possible word; a wrong target is loud."""
    logits = torch.zeros(3, WORDS)
    logits[0] = -torch.inf
    logits[1, 4] = torch.nan
    target = torch.tensor([IGNORED, IGNORED, WORDS])
    found = kernels.row_statistics(logits, target, sharpness=True, smoothing=True)
    assert found.nll[:2].tolist() == [0, 0]
    assert found.nll[2].isnan()
    slope = kernels.slope_in_place(logits.clone(), target, found, torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3))
    assert (slope[:2] == 0).all()
    torch.testing.assert_close(slope[2], torch.full((WORDS,), 1 / WORDS))


def test_tied_and_frozen_heads() -> None:
    table = inputs()[1].requires_grad_()
    ids, target = torch.arange(7), torch.arange(7) + 2
    found = torch.autograd.grad(
        linear_loss(table[ids], table, target, losses.build("mle"), reduction="sum", chunk_rows=4, backend="triton"),
        table,
    )
    wanted = torch.autograd.grad(
        torch.nn.functional.cross_entropy(table[ids] @ table.T, target, reduction="sum"), table
    )
    torch.testing.assert_close(found, wanted)
    hidden = table[ids].detach().requires_grad_()
    for reduction in ("sum", "none"):
        frozen = linear_loss(hidden, table.detach(), target, losses.build("mle"), reduction=reduction, backend="triton")  # type: ignore[arg-type]
        assert torch.autograd.grad(frozen.sum(), hidden)[0].isfinite().all()


def test_tables_are_scaled_in_place_unless_by_one() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        table = torch.randn(7, 11).to(dtype)
        found = table.clone()
        assert kernels.scale_in_place(found, torch.tensor(1.0)).equal(table)
        assert kernels.scale_in_place(found, torch.tensor(0.25)) is found
        torch.testing.assert_close(found, table * 0.25)
        strided = table.clone().T
        torch.testing.assert_close(kernels.scale_in_place(strided, torch.tensor(3.0)), (table * 3).T)
