"""Sums and other reductions over the processes of one training."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor


def distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def this_rank() -> int:
    """The number of this process among them; 0 where it trains alone."""
    return torch.distributed.get_rank() if distributed() else 0


def num_ranks() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if distributed() else 1


def all_reduce(tensor: Shaped[Tensor, "*shape"], operation: Any = None) -> Shaped[Tensor, "*shape"]:
    """The sum of a tensor over ranks (or another of ``torch.distributed.ReduceOp``), on the tensor's device."""
    reduced = tensor.to(_device_for(tensor), copy=True)
    torch.distributed.all_reduce(reduced, operation or torch.distributed.ReduceOp.SUM)
    return reduced.to(tensor.device)


def gathered(rows: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*gathered"]:
    """The rows of all ranks along the first axis, those of rank 0 first; ranks may have unequally many."""
    device = _device_for(rows)
    counts = [int(n) for n in gathered_objects(len(rows))]
    room = rows.new_zeros((max(counts), *rows.shape[1:]), device=device)
    room[: len(rows)] = rows.detach()
    # As bytes: not every type can be sent.
    sent = room.contiguous().view(torch.uint8)
    parts = [torch.empty_like(sent) for _ in counts]
    torch.distributed.all_gather(parts, sent)
    whole = [part.view(rows.dtype)[:count] for part, count in zip(parts, counts, strict=True)]
    return torch.cat(whole).to(rows.device)


def gathered_objects(value: Any) -> list[Any]:
    """A small value of each rank, by rank."""
    values: list[Any] = [None] * num_ranks()
    torch.distributed.all_gather_object(values, value)
    return values


def _device_for(tensor: Tensor) -> torch.device:
    """Where a tensor must lie to be sent: some losses count on the CPU, where NCCL can't add."""
    if torch.distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device
