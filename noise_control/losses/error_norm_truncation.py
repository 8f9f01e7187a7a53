"""Error norm truncation (Li et al. 2023, arXiv 2310.00840)."""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import IGNORED, TokenContext, TokenLoss, TokenStatistics
from noise_control.losses._truncation import Truncation

#: The norm's largest value; above it by a little, or a bin's edge would be the top.
_TOP = math.sqrt(2) * (1 + 2**-11)


class _ErrorNormTruncation(Truncation):
    wants_sharpness = True

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        assert statistics.sharpness_N is not None
        q_N = (-statistics.nll_N).exp()
        norm_N = (1 - 2 * q_N + statistics.sharpness_N).clamp(min=0).sqrt()
        kept_N = self.kept(norm_N, norm_N[target_N != IGNORED])
        return None if kept_N is None else kept_N.to(q_N.dtype)


def error_norm_truncation(share: float = 0.1, warmup_steps: int = 50, memory_steps: float = 50.0) -> TokenLoss:
    r"""Weight 0 on tokens whose error norm is among the ``share`` highest of late, 1 on others (Li et al. 2023).

    The norm is $\lVert q - e_w \rVert_2 = \sqrt{1 - 2 q_w + \sum_v q_v^2}$.

    A token is dropped where the model is both wrong and sure, not where it is merely unsure. ``share`` 0 is maximum
    likelihood, as are the first ``warmup_steps``. Returns ``(N,)``, unreduced. Raises ValueError outside [0, 1].
    """
    return _ErrorNormTruncation("error_norm_truncation", _TOP, share, warmup_steps, memory_steps)
