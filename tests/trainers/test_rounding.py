"""bf16 weights that are rounded at random learn as fp32 ones do; plain bf16 ones don't."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_bed import PROMPT, examples, fresh
from transformers import get_cosine_schedule_with_warmup

from flywheel.models.prompt import Evidence
from trainers.moments import EightBitAdamW, decoded_means, decoded_squares, encoded_means, encoded_squares
from trainers.rounding import RoundedAdamW, round_into, seeded, uniform_bits

CPU = torch.device("cpu")


def test_a_number_is_rounded_to_its_neighbours_and_right_on_average() -> None:
    step = 2.0**-7
    value = torch.tensor([1 + 0.25 * step, -1 - 0.9 * step, 1.5, 0.0, -0.0, float("inf")])
    many = value.repeat(20_000, 1)
    out = torch.empty_like(many, dtype=torch.bfloat16)
    round_into(out, many.clone(), uniform_bits(many, seeded(CPU, 3)))
    assert [sorted(set(column.tolist())) for column in out.float().T[:4]] == [
        [1.0, 1 + step],
        [-1 - step, -1.0],
        [1.5],
        [0.0],
    ]
    assert (out.float().mean(0)[:2] - value[:2]).abs().max() < 0.02 * step
    assert out[0, 5] == float("inf")


def test_moments_of_8_bits_are_right_on_average_and_squares_never_vanish() -> None:
    generator = seeded(CPU, 5)
    for number in (1.0, -0.3, 1e-3, 3e-5):
        mean = torch.full((300, 256), number)
        # The largest of each block.
        mean[:, -1] = 1.0
        drawn = torch.rand(mean.shape, generator=generator)
        for values, got in (
            (mean, decoded_means(*encoded_means(mean, drawn))),
            (mean.square(), decoded_squares(*encoded_squares(mean.square(), drawn))),
        ):
            assert len(set(got[:, :-1].flatten().tolist())) <= 2, "one of two neighbours"
            torch.testing.assert_close(got.mean(), values.mean(), rtol=0.005, atol=0)
            torch.testing.assert_close(got[:, 0].mean(), values[0, 0], rtol=0.03, atol=0)
    tiny = torch.full((1, 256), 1e-12)
    tiny[0, 0] = 1.0
    assert decoded_squares(*encoded_squares(tiny, drawn[:1])).min() > 0, "or a step would be divided by nothing"
    nothing = torch.zeros(1, 256)
    assert torch.equal(decoded_squares(*encoded_squares(nothing, drawn[:1])), nothing)
    assert torch.equal(decoded_means(*encoded_means(nothing, drawn[:1])), nothing)


@pytest.mark.parametrize("optimizer_type", [RoundedAdamW, EightBitAdamW])
def test_updates_below_half_a_step_add_up(optimizer_type: type[RoundedAdamW]) -> None:
    """A hundred updates of a fiftieth of a bf16 step each: two steps, within one of them at every weight."""
    step = 2.0**-7
    weight = torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    optimizer = optimizer_type([weight], lr=step / 50, seed=1)
    for _ in range(100):
        weight.grad = torch.full_like(weight, -1.0)
        optimizer.step()
    moved = (weight.detach().float() - 1) / step
    assert moved.mean() == pytest.approx(2, abs=0.05)
    assert (moved - 2).abs().max() <= 1, "fresh bits in each step would stray by more than one"


def test_only_bf16_weights_and_only_those_with_a_gradient() -> None:
    with pytest.raises(ValueError, match=r"trains bf16 weights, got torch\.float32"):
        RoundedAdamW([torch.nn.Parameter(torch.ones(2))])
    still, moved = (torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = RoundedAdamW([still, moved], lr=0.5)
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    assert still.tolist() == [1.0, 1.0]
    assert moved.tolist() != [1.0, 1.0]


def test_moments_of_8_bits_go_on_from_a_file_as_they_were(tmp_path: Path) -> None:
    def trained(cut: int | None) -> Tensor:
        weight = torch.nn.Parameter(torch.linspace(0.5, 2, 700).bfloat16())
        optimizer = EightBitAdamW([weight], lr=1e-3, seed=2)
        for step in range(6):
            if step == cut:
                torch.save(optimizer.state_dict(), tmp_path / "state.pt")
                optimizer = EightBitAdamW([weight], lr=1e-3, seed=2)
                optimizer.load_state_dict(torch.load(tmp_path / "state.pt"))
            weight.grad = torch.sin(torch.arange(700) * (step + 1.0)).bfloat16()
            optimizer.step()
        return weight.detach()

    assert torch.equal(trained(None), trained(3))


@pytest.mark.parametrize("optimizer_type", [RoundedAdamW, EightBitAdamW])
def test_weights_that_lie_apart_in_memory_are_trained_too(optimizer_type: type[RoundedAdamW]) -> None:
    weight = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.bfloat16).T)
    weight.grad = torch.ones(3, 4, dtype=torch.bfloat16)
    optimizer = optimizer_type([weight], lr=0.5)
    optimizer.step()
    assert (weight < 1).all()


TRITON = Path(os.environ.get("FLYWHEEL_TEST_TRITON", Path(sys.prefix) / "triton"))


@pytest.mark.slow
def test_the_kernel_in_a_process_with_triton() -> None:
    """In the interpreter, beside torch."""
    if not (TRITON / "triton").exists() and find_spec("triton") is None:
        pytest.skip(f"Triton is not in {TRITON}; make setup puts it there")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", str(root / "tests/trainers/rounding_cases.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(TRITON)]), "OMP_NUM_THREADS": "1"}
    environment |= {"TRITON_DEFAULT_FP_FUSION": "1", "TRITON_INTERPRET": "1"}
    command += ["-W", "ignore::RuntimeWarning"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "2 passed" in done.stdout


def losses_of(kind: str, rate: float, batches: list[dict[str, Tensor]], steps: int) -> Tensor:
    """The loss at each step; products are in fp32, so that only weights, gradients and moments differ."""
    model = fresh()[0].model
    # Two of its four layers: half the time.
    model.model.language_model.layers = model.model.language_model.layers[:2]
    model.requires_grad_(False)
    names = [name for name, _ in model.named_parameters() if ".visual." not in name]
    shown = {name: model.get_parameter(name).requires_grad_(True) for name in names}
    dtype = torch.float32 if kind == "fp32" else torch.bfloat16
    kept = {name: torch.nn.Parameter(p.detach().bfloat16().to(dtype)) for name, p in shown.items()}
    make: Any = {"rounded": RoundedAdamW, "8 bits": EightBitAdamW}.get(kind, torch.optim.AdamW)
    optimizer, found = make(kept.values(), lr=rate, weight_decay=0.01), []
    # As trainers.train has it: warm-up, then a cosine.
    schedule = get_cosine_schedule_with_warmup(optimizer, 10, 200)
    for step in range(steps):
        for name, weight in kept.items():
            shown[name].data.copy_(weight)
        loss = model(**batches[step]).loss
        loss.backward()
        found.append(loss.detach())
        for name, weight in kept.items():
            weight.grad = shown[name].grad.to(dtype)
        optimizer.step()
        schedule.step()
        model.zero_grad()
    return torch.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-5, 1e-3])
def test_losses_follow_those_of_fp32_masters_where_plain_bf16_does_not(rate: float) -> None:
    _, builder = fresh()
    rows, prompts = examples(800, "g"), [PROMPT.render(Evidence())] * 4
    batches = [
        builder.build([None] * 4, prompts, [row.text for row in rows[start : start + 4]]) for start in range(0, 800, 4)
    ]
    wanted = losses_of("fp32", rate, batches, 200)
    rounded = losses_of("rounded", rate, batches, 200)
    plain = losses_of("plain", rate, batches, 40)
    assert wanted[-1] < wanted[0] - 1, "or nothing was learned"
    assert (rounded - wanted).abs().max() < 0.01
    if rate == 1e-5:
        assert (losses_of("8 bits", rate, batches, 200) - wanted).abs().max() < 0.01
    assert (plain - wanted[:40]).abs().max() > 0.1
