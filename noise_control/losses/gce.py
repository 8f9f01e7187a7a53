"""Generalized cross-entropy (Zhang and Sabuncu 2018, arXiv 1805.07836)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import LOG_FLOOR, TokenContext, TokenLoss, TokenStatistics, check_shares


class _Gce(TokenLoss):
    def __init__(self, power: float) -> None:
        self.power = power

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        if self.power == 0:
            return None
        return torch.exp(self.power * (-statistics.nll_N).clamp(min=LOG_FLOOR))


def gce(power: float = 0.7) -> TokenLoss:
    r"""Weight $q_w^k$ on $-\log q_w$, detached: the gradient of $(1 - q_w^k)/k$ (Zhang and Sabuncu 2018, their L_q).

    The gradient is theirs; the value is the weighted likelihood. k -> 0 is maximum likelihood, k = 1 the one-hot total
    variation. Returns ``(N,)``, unreduced. Raises ValueError outside [0, 1].
    """
    check_shares("gce", power=power)
    return _Gce(power)
