"""Losses from hidden states without ever holding all logits: chunk by chunk, recomputed in the backward pass.

A plain, right version that serves every loss; logits live for one chunk of tokens at a time.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from noise_control.interface import IGNORED, TokenContext, TokenLoss

_CHUNK = 1024


def linear_loss(
    hidden_ND: Float[Tensor, "N D"],
    weight_VD: Float[Tensor, "V D"],
    target_N: Int[Tensor, " N"],
    token_loss: TokenLoss,
    bias: Float[Tensor, " V"] | None = None,
    soft_cap: float | None = None,
    context: TokenContext | None = None,
    reduction: Literal["none", "sum", "mean"] = "none",
) -> Tensor:
    """``token_loss`` of ``hidden @ weight.T + bias``: the same values and gradients, at most 1024 tokens' logits at once.

    ``soft_cap`` s bounds logits to (-s, s) by ``s * tanh(z / s)``. ``none`` returns (N,), ``mean`` divides by the targets
    that count. Raises ValueError for another reduction.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"linear_loss: reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    parts = []
    for start in range(0, len(hidden_ND), _CHUNK):
        span = slice(start, start + _CHUNK)
        # Weights first and without gradient: an adaptive loss counts what it sees, so it must see each token once, and
        # the backward pass calls its part again.
        with torch.no_grad():
            token_loss(_logits(hidden_ND[span], weight_VD, bias, soft_cap), target_N[span], _part(context, span))
            weight_n = token_loss.last_weight_N
        parts.append(
            checkpoint(_weighted, hidden_ND[span], weight_VD, bias, soft_cap, target_N[span], weight_n, use_reentrant=False)
        )
    loss_N = torch.cat(parts) if parts else hidden_ND.new_zeros(0)
    if reduction == "none":
        return loss_N
    total = loss_N.sum()
    return total if reduction == "sum" else total / (target_N != IGNORED).sum().clamp(min=1)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, soft_cap: float | None) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    return logits if soft_cap is None else soft_cap * torch.tanh(logits / soft_cap)


def _weighted(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, soft_cap: float | None, target: Tensor, token_weight: Tensor
) -> Tensor:
    logits = _logits(hidden, weight, bias, soft_cap)
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return token_weight * torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")


def _part(context: TokenContext | None, span: slice) -> TokenContext | None:
    if context is None:
        return None
    return TokenContext(**{name: None if value is None else value[span] for name, value in vars(context).items()})
