"""Sums and other reductions over the processes of one training."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor


def distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_reduce(tensor: Shaped[Tensor, "*shape"], operation: Any = None) -> Shaped[Tensor, "*shape"]:
    """The sum of a tensor over ranks (or another of ``torch.distributed.ReduceOp``), on the tensor's device."""
    # Some losses count on the CPU, where NCCL can't add.
    nccl = torch.distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if nccl else tensor.device
    reduced = tensor.to(device, copy=True)
    torch.distributed.all_reduce(reduced, operation or torch.distributed.ReduceOp.SUM)
    return reduced.to(tensor.device)
