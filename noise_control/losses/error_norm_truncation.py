"""Error norm truncation (Li et al. 2023, arXiv 2310.00840)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noise_control.interface import IGNORED, AllReduce, TokenContext, TokenLoss, TokenStatistics, check_shares
from noise_control.losses._quantile import RunningQuantile


class _ErrorNormTruncation(TokenLoss):
    wants_sharpness = True

    def __init__(self, share: float, warmup_steps: int, memory_steps: float) -> None:
        self.share, self.warmup_steps = share, warmup_steps
        self._quantile = RunningQuantile(math.sqrt(2) * (1 + 2**-11), memory_steps)
        self._steps = 0

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        assert statistics.sharpness_N is not None
        q_N = (-statistics.nll_N).exp()
        norm_N = (1 - 2 * q_N + statistics.sharpness_N).clamp(min=0).sqrt()
        self._quantile.add(norm_N[target_N != IGNORED])
        if self._steps < self.warmup_steps or self.share == 0:
            return None
        return (norm_N <= self._quantile.threshold(1 - self.share)).to(q_N.dtype)

    def step(self, all_reduce: AllReduce | None = None) -> None:
        self._quantile.step(all_reduce)
        self._steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self._quantile.counts, "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._quantile.counts = state["counts"].clone()
        self._steps = int(state["steps"])


def error_norm_truncation(share: float = 0.1, warmup_steps: int = 50, memory_steps: float = 50.0) -> TokenLoss:
    r"""Weight 0 on tokens whose $\lVert q - e_w \rVert_2 = \sqrt{1 - 2 q_w + \sum_v q_v^2}$ is among the ``share`` highest of
    late, 1 on others (Li et al. 2023).

    A token is dropped where the model is both wrong and sure, not where it is merely unsure. ``share`` 0 is maximum
    likelihood, as are the first ``warmup_steps``. Returns ``(N,)``, unreduced. Raises ValueError outside [0, 1].
    """
    check_shares("error_norm_truncation", share=share)
    if warmup_steps < 0 or memory_steps <= 0:
        raise ValueError(f"error_norm_truncation: need warmup_steps >= 0 and memory_steps > 0, got {warmup_steps}, {memory_steps}")
    return _ErrorNormTruncation(share, warmup_steps, memory_steps)
