"""The kernel of RoundedAdamW in Triton's interpreter, and compiled for GPUs that need not be there.

``test_rounding.py`` runs the first where Triton is; without ``TRITON_INTERPRET=1`` this is the second.
"""

from __future__ import annotations

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


def module(name: str) -> Any:
    """A file of trainers, without the package: that loads transformers."""
    file = Path(__file__).resolve().parents[2] / "trainers" / f"{name}.py"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


rounding_kernel, RoundedAdamW = module("rounding_kernel"), module("rounding").RoundedAdamW
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GROUP = {"betas": (0.9, 0.999), "lr": 2.0**-7 / 20, "eps": 1e-8, "weight_decay": 0.0}


@pytest.mark.skipif(not INTERPRETED, reason="the interpreter is not on")
def test_the_kernel_rounds_what_adamw_gives_and_updates_add_up() -> None:
    """Forty steps of a twentieth of a bf16 step each, beside torch's own AdamW in fp32."""
    count = 900
    gradients = -torch.linspace(0.5, 2.0, count).bfloat16()
    tensors = (torch.ones(count).bfloat16(), gradients, *(torch.zeros(count).bfloat16() for _ in range(2)))
    wanted = torch.nn.Parameter(torch.ones(count))
    masters = torch.optim.AdamW([wanted], lr=GROUP["lr"], weight_decay=0.0)
    for step in range(1, 41):
        wanted.grad = gradients.float()
        masters.step()
        rounding_kernel.update(tensors, {**GROUP, "step": step}, 7, step, step * 40_503 % 65_536)
    weight, _, mean, square = (tensor.float() for tensor in tensors)
    apart = (weight - wanted.detach()) / 2.0**-7
    assert apart.abs().max() <= 1.05, "within a bf16 step at each weight"
    assert abs(apart.mean()) < 0.05
    state = masters.state[wanted]
    torch.testing.assert_close(mean, state["exp_avg"], rtol=0.05, atol=0)
    assert (square / state["exp_avg_sq"]).mean() == pytest.approx(1, abs=0.005)


@pytest.mark.skipif(not INTERPRETED, reason="the interpreter is not on")
def test_a_step_of_the_kernel_is_near_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(300, generator=generator).bfloat16() for _ in range(2)]
    weight = torch.nn.Parameter(tensors[0].clone())
    weight.grad = tensors[1].clone()
    optimizer = RoundedAdamW([weight], lr=0.01, weight_decay=0.1)
    optimizer.step()
    moments = [torch.zeros(300).bfloat16() for _ in range(2)]
    group = {**GROUP, "lr": 0.01, "weight_decay": 0.1, "step": 1}
    rounding_kernel.update((*tensors, *moments), group, 1, 2, 3)
    for one, other in zip((tensors[0], *moments), (weight.detach(), *optimizer.state[weight].values()), strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=2.0**-7, atol=1e-6)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter is on")
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_for_gpus(capability: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = rounding_kernel._adamw
    names = kernel.arg_names
    numbers = {"count": "i32", "still": "i64", "fresh": "i64", "turn": "i32", "BLOCK": "constexpr"}
    types = {name: "*bf16" if name.isupper() else "fp32" for name in names} | numbers
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index("BLOCK"),): rounding_kernel.BLOCK},
        attrs={(index,): [["tt.divisibility", 16]] for index, name in enumerate(names) if types[name] == "*bf16"},
    )
    made = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": rounding_kernel.WARPS}
    )
    assert "ld.global" in made.asm["ptx"]
