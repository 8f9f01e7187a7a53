"""Maximum likelihood: plain cross-entropy."""

from __future__ import annotations

from torch import Tensor

from noise_control.interface import TokenContext, TokenLoss, TokenStatistics


class _Mle(TokenLoss):
    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        return None


def mle() -> TokenLoss:
    r"""$-\log q_w$ on each token. Returns ``(N,)``, unreduced; bit-identical to cross-entropy."""
    return _Mle()
