"""The kernels compiled for NVIDIA's Ampere and Hopper, without a GPU: `test_kernels.py` runs this where Triton is."""

from __future__ import annotations

from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from noise_control.kernels import rows as kernels

NUMBERS = {"words": "i32", "stride": "i32", "cap": "fp32", "count": "i64"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def assembly(kernel: Any, element: str, capability: int, **constants: Any) -> str:
    names = kernel.arg_names
    types = {
        name: "constexpr"
        if name in constants
        else NUMBERS.get(
            name, "*i64" if name == "TARGET" else "*" + element if name in ("Z", "B", "TABLE") else "*fp32"
        )
        for name in names
    }
    # As a launch finds it: pointers, vocabulary and stride are multiples of 16.
    even = [name for name in names if types[name].startswith("*") or name in ("words", "stride")]
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in even},
    )
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"num_warps": kernels.WARPS}).asm["ptx"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("capability", "element", "options"),
    [(80, "bf16", False), (90, "bf16", False), (90, "bf16", True), (90, "fp32", True)],
)
def test_compiles_to_wide_loads_and_stores(capability: int, element: str, options: bool) -> None:
    given = {"BLOCK": kernels.BLOCK, "BIAS": options, "CAP": options, "SMOOTHING": options}
    statistics = assembly(kernels._statistics, element, capability, **given, SHARPNESS=options)
    slope = assembly(kernels._slope, element, capability, **given)
    scale = assembly(kernels._scale, element, capability, BLOCK=kernels.SCALED)
    assert "ld.global.v4" in statistics
    assert "ld.global.v4" in slope
    assert "st.global.v4" in slope
    assert scale
