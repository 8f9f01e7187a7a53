"""A LoRA on layers that stay frozen (Hu et al. 2021), in the model that is loaded with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """A frozen linear layer with a learned product of two thin matrices beside it; it begins as the layer itself."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) + self.scale * ((x @ self.down.T) @ self.up.T)
        return y


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Freeze a model, and put a LoRA on each of its linear layers."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        if isinstance(parent, LoraLinear):
            continue
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, LoraLinear(layer, rank, alpha))
