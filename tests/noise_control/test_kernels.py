"""Triton's kernels: what chooses them, and their own tests in a process that has Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control import IGNORED, TokenContext, TokenLoss, TokenStatistics, kernels, linear_loss, losses
from noise_control.linear import _rows

ROOT = Path(__file__).resolve().parents[2]
#: Triton in a folder of its own, which vLLM's CPU build does not find. `make setup` puts it there.
TRITON = Path(os.environ.get("FLYWHEEL_TEST_TRITON", Path(sys.prefix) / "triton"))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kernel_cases.py", "kernels_compile.py"])
def test_in_a_process_with_triton(what: str) -> None:
    """In the interpreter against float64, and compiled for GPUs that need not be there."""
    if not (TRITON / "triton").exists() and find_spec("triton") is None:
        pytest.skip(f"Triton is not in {TRITON}; make setup puts it there")
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", str(ROOT / "tests/noise_control" / what)]
    # The interpreter is numpy, which warns of inf * 0 in what a `where` takes out.
    command += ["-W", "ignore::RuntimeWarning"]
    paths = os.pathsep.join([str(ROOT), str(TRITON)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment |= {"TRITON_DEFAULT_FP_FUSION": "1"}  # As it is where nobody sets it; 3.9 warns that this will change.
    environment |= {"TRITON_INTERPRET": "1"} if what == "kernel_cases.py" else {}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def some(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    h, w = torch.randn(count, 4, generator=generator), torch.randn(9, 4, generator=generator)
    target = torch.arange(count) % 9
    target[2] = IGNORED
    return h.requires_grad_(), w.requires_grad_(), target


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_torch_to_the_bit() -> None:
    h, w, target = some()
    found = []
    for backend in ("auto", "torch"):
        value = linear_loss(h, w, target, losses.build("tailr", gamma=0.2), reduction="mean", backend=backend)  # type: ignore[arg-type]
        found.append((value, *torch.autograd.grad(value, (h, w))))
    for mine, theirs in zip(*found, strict=True):
        assert mine.equal(theirs)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU, and the data is on cpu; backend='auto' takes torch"):
        linear_loss(h, w, target, losses.build("mle"), backend="triton")
    with pytest.raises(ValueError, match="not in float64"):
        linear_loss(h.double(), w.double(), target, losses.build("mle"), backend="triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_kernels_that_do_not_run_are_said_once_and_torch_does_the_same() -> None:
    """Here for want of a GPU; elsewhere a compiler may be missing."""
    with pytest.warns(UserWarning, match=r"Triton's kernels do not run here \(.+\); torch does the same"):
        assert not kernels._runs(0, torch.float32)
    assert not kernels._runs(0, torch.float32)


@pytest.mark.usefixtures("unchecked")
def test_unknown_choices() -> None:
    h, w, target = some()
    with pytest.raises(ValueError, match="backend must be 'auto', 'torch' or 'triton', got 'cuda'"):
        linear_loss(h, w, target, losses.build("mle"), backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight_gradient must be"):
        linear_loss(h, w, target, losses.build("mle"), weight_gradient="half")  # type: ignore[arg-type]


class _Reversed(TokenLoss):
    """A plug-in's loss that no weight expresses: the likelihood of not choosing the target."""

    def __call__(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> Float[Tensor, " N"]:
        live = target_N != IGNORED
        q = logits_NV.softmax(-1).gather(1, target_N.clamp(min=0)[:, None])[:, 0]
        return torch.where(live, -torch.log1p(-q), torch.zeros_like(q))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_loss_that_no_weight_expresses_gets_full_logits(reduction: str) -> None:
    h, w, target = some()
    with pytest.warns(UserWarning, match="_Reversed has a __call__ of its own"):
        found = linear_loss(h, w, target, _Reversed(), None, 2.0, reduction=reduction, chunk_rows=4)  # type: ignore[arg-type]
    exact = _Reversed()(2 * torch.tanh(h @ w.T / 2), target)
    wanted = {"none": exact, "sum": exact.sum(), "mean": exact.sum() / 11}[reduction]
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(value.sum(), (h, w)) for value in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_a_target_that_is_masked_out_moves_nothing_unless_its_weight_is_one() -> None:
    """As with full logits: its loss is taken out, and so is its gradient."""
    h, w, target = some(4)
    bias = torch.zeros(9)
    bias[3] = -torch.inf
    loss = losses.build("tailr", gamma=0.2, floor=0.5)
    gradients = []
    for value in (linear_loss(h, w, target, loss, bias, reduction="sum"), loss(h @ w.T + bias, target).sum()):
        gradients.append(torch.autograd.grad(value, (h, w)))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("size", [(16_384, 4096, 131_072), (8192, 2304, 256_000), (8192, 4096, 151_936)])
def test_the_budget_holds_logits_and_the_hidden_gradient(size: tuple[int, int, int]) -> None:
    tokens, hidden, words = size
    h, w = (torch.empty(*shape, dtype=torch.bfloat16, device="meta") for shape in ((tokens, hidden), (words, hidden)))
    for budget in (256 << 20, 512 << 20, 2 << 30):
        rows = _rows(h, w, True, budget)
        assert rows * words * 2 <= max(budget - 2 * tokens * hidden, budget // 2)
        assert rows % 128 == 0
    assert _rows(h, w, True, 1 << 20) == 16
    assert _rows(h, w, False, 40 << 20) == (40 << 20) // (4 * words)


#: Texts of one group and texts that people vouch for; one text stands often; some tokens do not count.
_LENGTH, _TEXTS, _WORDS = 6, 40, 30


def _batch(seed: int) -> tuple[Tensor, Tensor, TokenContext]:
    generator = torch.Generator().manual_seed(seed)
    count = _LENGTH * _TEXTS
    logits = 2 * torch.randn(count, _WORDS, generator=generator, dtype=torch.float64)
    noise = torch.randint(0, 6, (count,), generator=generator)
    target = torch.where(torch.rand(count, generator=generator) < 0.5, noise, logits.argmax(-1))
    target[: 8 * _LENGTH] = target[:_LENGTH].repeat(8)
    target[50:53] = target[:1] = IGNORED
    sequence = torch.arange(count) // _LENGTH
    return logits, target, TokenContext(sequence_N=sequence, row_N=sequence % 37, group_N=sequence % 2 - 1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "arguments",
    [{"floor": 0.2}, {"levels": "words"}, {"rule": "sharpness"}],
    ids=lambda arguments: "-".join(map(str, arguments.values())) or "mixture",
)
@pytest.mark.slow
def test_a_planned_weight_is_the_weight(arguments: dict[str, Any]) -> None:
    """By plan, as a GPU gets them chunk by chunk, and at once: the same weights, and the same is learned of noise."""
    buckets = {} if "rule" in arguments else {"buckets": 64}
    at_once, by_plan = (losses.build("adatailr", warmup_steps=0, **buckets, **arguments) for _ in range(2))
    weighed = 0
    for step in range(3):
        logits, target, told = _batch(step)
        at_once(logits, target, told)
        nll = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
        sharpness = logits.softmax(-1).square().sum(-1)
        plan = by_plan.planned(target, _WORDS, told)
        assert plan is not None
        parts = []
        for start in range(0, len(target), 7 * _LENGTH):
            span = slice(start, start + 7 * _LENGTH)
            part = TokenStatistics(nll_N=nll[span], vocabulary=_WORDS, sharpness_N=sharpness[span])
            by_plan.bounded(plan.weight(part, span), part, target[span])
            assert by_plan.last_weight_N is not None
            parts.append(by_plan.last_weight_N)
        plan.count(TokenStatistics(nll_N=nll, vocabulary=_WORDS, sharpness_N=sharpness))
        torch.testing.assert_close(torch.cat(parts), at_once.last_weight_N, rtol=1e-12, atol=1e-15)
        weighed += int(((torch.cat(parts) != 1) & (target != IGNORED)).any())
        for loss in (at_once, by_plan):
            loss.step()
            if step == 2:  # Nothing is weighed by what a look now would find.
                continue
            people = TokenContext(sequence_N=told.sequence_N)
            loss.observe_human(logits, logits.argmax(-1), people)
            for index, corrupted in loss.corrupted(logits.argmax(-1), people):
                group = torch.full_like(corrupted, index)
                loss.observe_corrupted(logits, corrupted, TokenContext(sequence_N=told.sequence_N, group_N=group))
            loss.step()
        for key, table in at_once.state_dict().items():
            torch.testing.assert_close(by_plan.state_dict()[key], table, rtol=1e-9, atol=1e-12)
    assert weighed
