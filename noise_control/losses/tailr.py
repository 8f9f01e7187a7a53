"""TaiLr: total variation by a proxy, after Ji et al. 2023 (arXiv 2302.13344)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import AllReduce, TokenContext, TokenLoss, TokenStatistics, check_shares, tailr_weight


class _Tailr(TokenLoss):
    def __init__(self, gamma: float, floor: float, warmup_steps: int, smoothing: float) -> None:
        self.gamma, self.floor, self.warmup_steps, self.smoothing = gamma, floor, warmup_steps, smoothing
        self._steps = 0

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        gamma = self.gamma * min(1.0, self._steps / self.warmup_steps) if self.warmup_steps else self.gamma
        if gamma == 0:
            return None
        return tailr_weight(-statistics.nll_N, gamma)

    def step(self, all_reduce: AllReduce | None = None) -> None:
        self._steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._steps = int(state["steps"])


def tailr(gamma: float, floor: float = 0.0, warmup_steps: int = 0, smoothing: float = 0.0) -> TokenLoss:
    r"""Weight $w = \max(m, q / (\gamma + (1-\gamma) q))$ on each token's $-\log q$, w detached (Ji et al. 2023, code).

    gamma -> 0 is maximum likelihood, gamma = 1 with m = 0 is total variation; ``floor`` is m. Over ``warmup_steps``
    gamma rises linearly from 0. ``smoothing`` is the unweighted share of the uniform distribution. Returns ``(N,)``,
    unreduced. Raises ValueError outside [0, 1].
    """
    check_shares("tailr", gamma=gamma, floor=floor, smoothing=smoothing)
    if warmup_steps < 0:
        raise ValueError(f"tailr: need warmup_steps >= 0, got {warmup_steps}")
    return _Tailr(gamma, floor, warmup_steps, smoothing)
