"""Label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import TokenContext, TokenLoss, TokenStatistics, check_shares


class _LabelSmoothing(TokenLoss):
    def __init__(self, amount: float) -> None:
        self.smoothing = amount

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        return None


def label_smoothing(amount: float = 0.1) -> TokenLoss:
    r"""$(1-s)(-\log q_w) + \frac{s}{V}\sum_v (-\log q_v)$, over words not masked out (Szegedy et al. 2016).

    0 is cross-entropy; 1 asks for the uniform distribution. Returns ``(N,)``, unreduced. Raises ValueError for
    an amount outside [0, 1].
    """
    check_shares("label_smoothing", amount=amount)
    return _LabelSmoothing(amount)
