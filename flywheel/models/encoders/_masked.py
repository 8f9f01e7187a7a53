"""Tokens that are hidden, and how well they are told from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flywheel.models.encoders._interface import TEXT, Modality

#: Share of tokens that are hidden of each frame's patches, and of the sound's (VLSA, 4.2).
_HIDDEN_PATCHES = 0.75


def drawn(lead: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Masks ``(*lead, count)`` in which three of four are hidden, exactly."""
    order = torch.rand((*lead, count), generator=generator).argsort(-1).argsort(-1)
    return order < round(_HIDDEN_PATCHES * count)


def visible(tokens_BND: Tensor, mask_BN: Tensor) -> Tensor:
    return tokens_BND[~mask_BN].view(len(tokens_BND), -1, tokens_BND.shape[-1])


def told(name: Modality, decoded: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Mean loss of each clip's hidden tokens (B,): squares of patches, cross-entropy of words."""
    if name == TEXT:
        each = nn.functional.cross_entropy(decoded.transpose(1, 2), values, reduction="none")
    else:
        each = (decoded - values).square().mean(-1)
    return (each * mask).sum(1) / mask.sum(1).clamp_min(1)
