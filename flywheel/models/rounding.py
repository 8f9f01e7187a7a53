"""What rounding alone does to a model: its results are rounded otherwise than the hardware rounded them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Last places by which each result is moved at most. In float32 the sums inside a product are rounded term by term; in
#: the smaller types only their end is.
_PLACES = {torch.float32: 16.0}


@contextmanager
def rounded_otherwise(model: torch.nn.Module, seed: int = 0) -> Iterator[None]:
    """Move each layer's results by about their last place, at random, while the context lasts.

    Two right programs differ by as much as they round at other places, also where each of them gives the same numbers
    every time (Monte Carlo arithmetic: Parker 1997). ``seed`` decides the moves.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def move(module: Any, inputs: Any, output: Any) -> torch.Tensor | None:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return None
        device = output.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        size = _PLACES.get(output.dtype, 1.0) * torch.finfo(output.dtype).eps
        share = torch.rand(output.shape, device=device, generator=generators[device])
        return (output.float() * share.mul_(2 * size).add_(1 - size)).to(output.dtype)

    hooks = [m.register_forward_hook(move) for m in model.modules() if next(m.children(), None) is None]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
