"""Losses from hidden states: equal to full logits in value, gradient and state, and thrifty."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noise_control import IGNORED, TokenContext, linear_loss, losses
from noise_control.linear import _Job

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("mle", {}),
    ("tailr", {"gamma": 0.3, "smoothing": 0.1}),
    ("label_smoothing", {"amount": 0.2}),
    ("gce", {}),
    ("loss_truncation", {"warmup_steps": 1}),
    ("error_norm_truncation", {"warmup_steps": 1, "share": 0.3}),
    ("adatailr", {"rule": "sharpness", "warmup_steps": 0}),
    ("adatailr", {"warmup_steps": 0}),
]


def parts(count: int = 50, hidden: int = 8, vocabulary: int = 13, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    h, w, b = (
        torch.randn(*s, generator=generator, dtype=torch.float64)
        for s in ((count, hidden), (vocabulary, hidden), (vocabulary,))
    )
    target = torch.randint(0, vocabulary, (count,), generator=generator)
    target[3] = IGNORED
    target[20:22] = IGNORED
    return h.requires_grad_(), w.requires_grad_(), b.requires_grad_(), target


def context(count: int, length: int) -> TokenContext:
    sequence = torch.arange(count) // length
    return TokenContext(sequence_N=sequence, row_N=sequence, scale_N=torch.linspace(0.5, 2, count, dtype=torch.float64))


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
@pytest.mark.parametrize("soft_cap", [None, 3.0])
@pytest.mark.parametrize(
    ("rows", "length"),
    [(7, 9), pytest.param(16, 5, marks=pytest.mark.slow), pytest.param(None, 9, marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_equals_full_logits(
    name: str, arguments: dict[str, Any], soft_cap: float | None, rows: int | None, length: int
) -> None:
    """Values, all gradients and what adapts, over steps, reductions, and sequences longer than a chunk."""
    for reduction in ("none", "sum", "mean"):
        full, chunked = losses.build(name, **arguments), losses.build(name, **arguments)
        for step in range(3):
            h, w, b, target = parts(seed=step)
            told, upstream = context(50, length), torch.linspace(-1, 2, 50, dtype=torch.float64)
            logits = torch.nn.functional.linear(h, w, b)
            logits = logits if soft_cap is None else soft_cap * torch.tanh(logits / soft_cap)
            for loss in (full, chunked):
                loss.observe_human(
                    logits.detach(), logits.detach().argmax(-1), TokenContext(sequence_N=told.sequence_N)
                )
            out = full(logits, target, told)
            wanted = {
                "none": (out * upstream).sum(),
                "sum": out.sum() * 2,
                "mean": out.sum() / (target != IGNORED).sum() * 2,
            }[reduction]
            gradients = torch.autograd.grad(wanted, (h, w, b))
            value = linear_loss(h, w, target, chunked, b, soft_cap, told, reduction, rows)  # type: ignore[arg-type]
            found = (value * upstream).sum() if reduction == "none" else value * 2
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
            for mine, theirs in zip(torch.autograd.grad(found, (h, w, b)), gradients, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(chunked.last_weight_N, full.last_weight_N, rtol=1e-9, atol=1e-12)
            for loss in (full, chunked):
                loss.step()
        for key, table in full.state_dict().items():
            torch.testing.assert_close(chunked.state_dict()[key], table, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_gradcheck() -> None:
    h, w, b, target = parts(9, 4, 6)
    target = target.clamp(min=0)
    target[2] = IGNORED
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_loss(h, w, target, losses.build("mle"), b, 2.0, chunk_rows=4), (h, w, b)
    )


def test_chunks_end_with_sequences_where_they_fit() -> None:
    def spans(lengths: list[int], rows: int) -> tuple[list[tuple[int, int]], bool]:
        sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        job = _Job(
            target_N=torch.zeros(len(sequence), dtype=torch.long),
            loss=losses.build("adatailr"),
            soft_cap=None,
            context=TokenContext(sequence_N=sequence),
            rows=rows,
            reduction="sum",
        )
        found, whole = job.spans()
        return [(s.start, s.stop) for s in found], whole

    assert spans([3, 4, 2, 5], 7) == ([(0, 7), (7, 14)], True)
    assert spans([3, 4, 2, 5], 6) == ([(0, 3), (3, 9), (9, 14)], True)
    assert spans([3, 9, 2], 7) == ([(0, 7), (7, 14)], False)


def test_tied_and_frozen_heads() -> None:
    """A tied weight gets both gradients; a frozen one (PEFT) gets none and costs none."""
    table = torch.randn(13, 8, dtype=torch.float64, requires_grad=True)
    ids, target = torch.arange(10) % 13, (torch.arange(10) + 3) % 13
    found = torch.autograd.grad(
        linear_loss(table[ids], table, target, losses.build("mle"), reduction="sum", chunk_rows=4), table
    )
    logits = table[ids] @ table.T
    wanted = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target, reduction="sum"), table)
    torch.testing.assert_close(found, wanted)
    hidden = table[ids].detach().requires_grad_()
    linear_loss(hidden, table.detach(), target, losses.build("mle"), reduction="sum").backward()
    assert hidden.grad is not None


def test_half_precision_and_autocast() -> None:
    h, w, b, target = parts(40, 32, 50)
    half = [x.detach().bfloat16().requires_grad_() for x in (h, w, b)]
    value = linear_loss(half[0], half[1], target, losses.build("mle"), half[2], reduction="mean", chunk_rows=16)
    assert value.dtype == torch.float32
    value.backward()
    exact = torch.nn.functional.cross_entropy((half[0] @ half[1].T + half[2]).float(), target, ignore_index=IGNORED)
    wanted = torch.autograd.grad(exact, half)
    torch.testing.assert_close(value, exact, rtol=1e-2, atol=1e-2)
    for x, g in zip(half, wanted, strict=True):
        assert x.grad.dtype == torch.bfloat16
        torch.testing.assert_close(x.grad.float(), g.float(), rtol=5e-2, atol=2e-3)
    full = [x.detach().float().requires_grad_() for x in (h, w)]
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_loss(full[0], full[1], target, losses.build("mle"), reduction="mean")
    out.backward()
    assert full[1].grad.dtype == torch.float32


def test_extreme_logits_stay_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        h = torch.tensor([[1e4, 0.0], [-1e4, 0.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
        w = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
        bias = torch.tensor([0.0, 0.0, -torch.inf], dtype=dtype)
        for name, arguments in LOSSES:
            loss = linear_loss(h, w, torch.tensor([0, 1, 0]), losses.build(name, **arguments), bias, reduction="sum")
            for gradient in torch.autograd.grad(loss, (h, w)):
                assert torch.isfinite(gradient).all(), (name, dtype)
            assert torch.isfinite(loss), (name, dtype)


# Dynamo itself looks at .grad of what crosses its graph break.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.slow
def test_compiles_around_it() -> None:
    h, w, _, target = parts(20, 8, 13)

    def call(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return linear_loss(torch.tanh(h), w, target[:20], losses.build("tailr", gamma=0.1), reduction="mean") * 2

    compiled = torch.compile(call, backend="eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(h, w), (h, w)), torch.autograd.grad(call(h, w), (h, w)))


def test_nothing_to_learn_from() -> None:
    h, w, _, target = parts()
    empty = linear_loss(h[:0], w, target[:0], losses.build("mle"), reduction="sum")
    assert empty == 0
    empty.backward()
    ignored = linear_loss(
        h, w, torch.full_like(target, IGNORED), losses.build("adatailr"), context=context(50, 9), reduction="mean"
    )
    ignored.backward()
    assert ignored == 0
    assert (h.grad == 0).all()


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit() -> None:
    h, w, _, target = parts()
    with pytest.raises(ValueError, match="reduction must be"):
        linear_loss(h, w, target, losses.build("mle"), reduction="average")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"need hidden \(N, D\) and weight \(V, D\)"):
        linear_loss(h, w.T, target, losses.build("mle"))
    with pytest.raises(ValueError, match=r"need targets \(N,\)"):
        linear_loss(h, w, target[1:], losses.build("mle"))


def test_a_reduced_loss_goes_backward_once() -> None:
    h, w, _, target = parts()
    loss = linear_loss(h, w, target, losses.build("mle"), reduction="sum")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        loss.backward()
    tokens = linear_loss(h, w, target, losses.build("mle"))
    tokens.sum().backward(retain_graph=True)
    tokens.sum().backward()
