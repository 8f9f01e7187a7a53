"""Maximum likelihood: plain cross-entropy."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import TokenContext, TokenLoss, TokenStatistics


class _Mle(TokenLoss):
    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        return None


def mle() -> TokenLoss:
    r"""$-\log q_w$ on each token. Returns ``(N,)``, unreduced; bit-identical to cross-entropy."""
    return _Mle()
