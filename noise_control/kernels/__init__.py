"""Triton's kernels for losses from hidden states: whether they can be used, and which rows they work on.

Triton is optional: this module does not import it, and nothing here is needed where it is missing.
"""

from __future__ import annotations

import math
import os
import warnings
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

#: The backends of ``linear_loss``.
BACKENDS = ("auto", "torch", "triton")
#: Statistics are float32, so float64 is torch's.
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
#: Ampere: the first with bf16.
_LEAST_CAPABILITY = (8, 0)


def chosen(backend: str, hidden: Tensor) -> bool:
    """Whether Triton's kernels do the rows of ``hidden @ weight.T``; ``auto`` takes them on NVIDIA GPUs from Ampere on.

    Raises ValueError for an unknown backend, and where ``triton`` is asked for and can't be had.
    """
    if backend not in BACKENDS:
        raise ValueError(f"linear_loss: backend must be 'auto', 'torch' or 'triton', got {backend!r}")
    if backend == "torch":
        return False
    lacking = _lacking(hidden)
    if backend == "triton" and lacking is not None:
        raise ValueError(f"linear_loss: backend='triton' {lacking}; backend='auto' takes torch then")
    if backend == "triton":
        return True
    return lacking is None and hidden.is_cuda and _runs(hidden.device.index, hidden.dtype)


def _lacking(hidden: Tensor) -> str | None:
    """What the kernels lack here, or None."""
    if hidden.dtype not in _DTYPES:
        return f"works in float32, bfloat16 and float16, not in {str(hidden.dtype).removeprefix('torch.')}"
    # The interpreter runs kernels on the CPU, for tests.
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted and not (hidden.is_cuda and torch.version.cuda is not None):
        return f"needs an NVIDIA GPU, and the data is on {hidden.device}"
    if not interpreted and torch.cuda.get_device_capability(hidden.device) < _LEAST_CAPABILITY:
        return f"needs a GPU from Ampere on, and this is {torch.cuda.get_device_name(hidden.device)}"
    return None if _has_triton() else "needs the package triton, which is not installed"


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@lru_cache
def _runs(device: int, dtype: torch.dtype) -> bool:
    """Whether a kernel can be compiled and run; said once where not, since a machine may lack a C compiler."""
    try:
        from noise_control.kernels.rows import row_statistics

        logits = torch.zeros(1, 16, dtype=dtype, device=f"cuda:{device}")
        found = row_statistics(logits, torch.zeros(1, dtype=torch.long, device=logits.device))
        works = abs(float(found.nll) - math.log(16)) < 1e-4
        reason = f"a kernel gave {float(found.nll)} for the logarithm of 16"
    except Exception as error:
        works, reason = False, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if not works:
        warnings.warn(
            f"linear_loss: Triton's kernels do not run here ({reason}); torch does the same in more time and memory",
            stacklevel=4,
        )
    return works
