"""TaiLr: total variation by a proxy, after Ji et al. 2023 (arXiv 2302.13344)."""

from __future__ import annotations

from torch import Tensor

from noise_control.interface import TokenContext, TokenLoss, tailr_weight


class _Tailr(TokenLoss):
    def __init__(self, gamma: float, floor: float) -> None:
        self.gamma, self.floor = gamma, floor

    def weight(self, logits_NV: Tensor, target_N: Tensor, nll_N: Tensor, context: TokenContext | None) -> Tensor | None:
        if self.gamma == 0:
            return None
        return tailr_weight(-nll_N, self.gamma).clamp(min=self.floor)


def tailr(gamma: float, floor: float = 0.0) -> TokenLoss:
    r"""Weight $w = \max(m, q / (\gamma + (1-\gamma) q))$ on each token's $-\log q$, w detached (Ji et al. 2023, code).

    gamma -> 0 is maximum likelihood, gamma = 1 with m = 0 is total variation; ``floor`` is m. Returns ``(N,)``, unreduced.
    Raises ValueError outside [0, 1].
    """
    for name, value in (("gamma", gamma), ("floor", floor)):
        if not 0 <= value <= 1:
            raise ValueError(f"tailr: need 0 <= {name} <= 1, got {value}")
    return _Tailr(gamma, floor)
