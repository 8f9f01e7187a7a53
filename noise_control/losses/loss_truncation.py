"""Loss truncation (Kang and Hashimoto 2020, arXiv 2004.14589)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import IGNORED, TokenContext, TokenLoss, TokenStatistics
from noise_control.losses._truncation import Truncation

_TOP_NATS = 40.0


class _LossTruncation(Truncation):
    wants_sequences = True

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        live_N = target_N != IGNORED
        sequence_N = (
            context.sequence_N
            if context is not None and context.sequence_N is not None
            else torch.arange(len(target_N))
        )
        # Rows without a token that counts would enter as sequences of loss zero.
        names, index_N = torch.unique(sequence_N.to(target_N.device)[live_N], return_inverse=True)
        sums = torch.zeros(len(names), dtype=torch.float64, device=target_N.device)
        sums.index_add_(0, index_N, statistics.nll_N[live_N].double())
        mean_S = sums / torch.bincount(index_N, minlength=len(names)).clamp(min=1)
        kept_S = self.kept(mean_S, mean_S)
        if kept_S is None:
            return None
        weight_N = torch.zeros_like(statistics.nll_N)
        weight_N[live_N] = kept_S.to(weight_N.dtype)[index_N]
        return weight_N

    def figures(self) -> dict[str, float]:
        threshold = self.threshold()
        return {"truncation_nats": threshold} if threshold < _TOP_NATS else {}


def loss_truncation(share: float = 0.3, warmup_steps: int = 50, memory_steps: float = 50.0) -> TokenLoss:
    r"""Weight 0 on sequences whose mean $-\log q$ is among the ``share`` highest of late, 1 on others.

    Kang and Hashimoto 2020; the released code's ring buffer is a decayed histogram here, which ranks can add up.

    ``share`` is the noise rate, which somebody must set; 0 is maximum likelihood, as are the first ``warmup_steps``.
    Returns ``(N,)``, unreduced. Raises ValueError outside [0, 1].
    """
    return _LossTruncation("loss_truncation", _TOP_NATS, share, warmup_steps, memory_steps)
