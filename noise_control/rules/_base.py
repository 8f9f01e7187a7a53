"""The base of adaptive losses, and what they share about groups."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise_control.interface import IGNORED, TokenContext, TokenLoss


class AdaptiveRule(TokenLoss):
    """A token loss whose weights follow from noise that it measured.

    :meth:`weight` counts what it sees, :meth:`step` takes it into account.
    """

    adapts = True

    def noise_rates(self) -> Float[Tensor, " G"]:
        """The measured share of noise of each group, float64 (G,)."""
        return torch.zeros(0, dtype=torch.float64)

    def figures(self) -> dict[str, float]:
        return {f"noise_rate/{g}": rate for g, rate in enumerate(self.noise_rates().tolist())}


def group_of(context: TokenContext | None, target_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Group of each token, (N,); group 0 for all of them where the context names none."""
    if context is None or context.group_N is None:
        return torch.zeros_like(target_N)
    return context.group_N.to(target_N.device)


def doubtful(context: TokenContext | None, target_N: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Tokens that count and that nobody vouches for, (N,) bool."""
    return (target_N != IGNORED) & (group_of(context, target_N) >= 0)


def grown(table: Float[Tensor, "rows ..."], size: int) -> Float[Tensor, "more_rows ..."]:
    """``table`` with at least ``size`` rows, new ones zero."""
    return torch.cat([table, table.new_zeros(size - len(table), *table.shape[1:])]) if size > len(table) else table
