"""Transformer blocks that modalities share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and an MLP, each after a norm and added to what came in (pre-norm, as in ViT)."""

    def __init__(self, width: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"encoder: need a width that heads divide, got {width} and {heads}")
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x_BND: Tensor, seen_BN: Tensor | None) -> Tensor:
        """``seen_BN`` says which tokens are attended to; None is all."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.before_attention(x_BND)).chunk(3, dim=-1)
        )
        mask = None if seen_BN is None else seen_BN[:, None, None]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x_BND + self.out(mixed.transpose(1, 2).flatten(2))
        y: Tensor = x + self.mlp(self.before_mlp(x))
        return y


class Blocks(nn.Module):
    """Blocks one after the other, and a norm."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BND: Tensor, seen_BN: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, seen_BN)
        y: Tensor = self.norm(x_BND)
        return y


def mean_of(x_BND: Tensor, seen_BN: Tensor | None) -> Tensor:
    """Mean over the tokens that are seen, as a unit vector (B, D)."""
    if seen_BN is None:
        mean = x_BND.mean(1)
    else:
        seen = seen_BN[..., None].to(x_BND.dtype)
        mean = (x_BND * seen).sum(1) / seen.sum(1).clamp_min(1)
    return torch.nn.functional.normalize(mean, dim=-1)
