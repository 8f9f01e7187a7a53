"""Loss truncation (Kang and Hashimoto 2020, arXiv 2004.14589)."""

from __future__ import annotations

import torch
from torch import Tensor

from noise_control.interface import IGNORED, AllReduce, TokenContext, TokenLoss, TokenStatistics, check_shares
from noise_control.losses._quantile import RunningQuantile

_TOP_NATS = 40.0


class _LossTruncation(TokenLoss):
    wants_sequences = True

    def __init__(self, share: float, warmup_steps: int, memory_steps: float) -> None:
        self.share, self.warmup_steps = share, warmup_steps
        self._quantile = RunningQuantile(_TOP_NATS, memory_steps)
        self._steps = 0

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        live_N = target_N != IGNORED
        sequence_N = context.sequence_N if context is not None and context.sequence_N is not None else torch.arange(len(target_N))
        # Rows without a token that counts would enter as sequences of loss zero.
        names, index_N = torch.unique(sequence_N.to(target_N.device)[live_N], return_inverse=True)
        sums = torch.zeros(len(names), dtype=torch.float64, device=target_N.device)
        sums.index_add_(0, index_N, statistics.nll_N[live_N].double())
        mean_S = sums / torch.bincount(index_N, minlength=len(names)).clamp(min=1)
        self._quantile.add(mean_S)
        if self._steps < self.warmup_steps or self.share == 0:
            return None
        weight_N = torch.zeros_like(statistics.nll_N)
        weight_N[live_N] = (mean_S <= self._quantile.threshold(1 - self.share)).to(weight_N.dtype)[index_N]
        return weight_N

    def step(self, all_reduce: AllReduce | None = None) -> None:
        self._quantile.step(all_reduce)
        self._steps += 1

    def figures(self) -> dict[str, float]:
        threshold = self._quantile.threshold(1 - self.share)
        return {"truncation_nats": threshold} if threshold < _TOP_NATS else {}

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self._quantile.counts, "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._quantile.counts = state["counts"].clone()
        self._steps = int(state["steps"])


def loss_truncation(share: float = 0.3, warmup_steps: int = 50, memory_steps: float = 50.0) -> TokenLoss:
    r"""Weight 0 on sequences whose mean $-\log q$ is among the ``share`` highest of late, 1 on others (Kang and Hashimoto
    2020; the released code's ring buffer is a decayed histogram here, which ranks can add up).

    ``share`` is the noise rate, which this loss must be told; 0 is maximum likelihood, as are the first ``warmup_steps``.
    Returns ``(N,)``, unreduced. Raises ValueError outside [0, 1].
    """
    check_shares("loss_truncation", share=share)
    if warmup_steps < 0 or memory_steps <= 0:
        raise ValueError(f"loss_truncation: need warmup_steps >= 0 and memory_steps > 0, got {warmup_steps}, {memory_steps}")
    return _LossTruncation(share, warmup_steps, memory_steps)
