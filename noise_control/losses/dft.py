"""Dynamic fine-tuning (Wu et al. 2025, arXiv 2508.05629)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import LOG_FLOOR, TokenContext, TokenLoss, TokenStatistics


class _Dft(TokenLoss):
    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        return torch.exp((-statistics.nll_N).clamp(min=LOG_FLOOR))


def dft() -> TokenLoss:
    r"""Weight $q_w$ on $-\log q_w$, detached (Wu et al. 2025).

    Its gradient is that of $1 - q_w$: TaiLr at gamma = 1 and GCE at power 1. Returns ``(N,)``, unreduced.
    """
    return _Dft()
