"""What a token loss is. Shape suffixes: N tokens, V vocabulary, D hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Targets with this value are padding or prompt: they touch neither the loss nor any statistic.
IGNORED = -100

#: log-probabilities are floored here before they become weights; e^-80 is far under any probability that matters.
LOG_FLOOR = -80.0


@dataclass(frozen=True, kw_only=True)
class TokenContext:
    """What some rules need to know of each token: its sequence, its group (source x round x kind), and the log-probability
    that the annotating model gave it."""

    sequence_N: Int[Tensor, " N"] | None = None
    group_N: Int[Tensor, " N"] | None = None
    generator_logp_N: Float[Tensor, " N"] | None = None


class TokenLoss:
    """A per-token-weighted cross-entropy, unreduced: ``loss(logits_NV, target_N, context) -> (N,)``.

    A loss gives :meth:`weight`; the rest is shared. Weights carry no gradient. Adaptive losses keep a state: they have
    :meth:`step`, called once per optimizer step, and ``state_dict``/``load_state_dict``.
    """

    built_from: tuple[str, dict[str, Any]] = ("", {})
    #: The weights of the last call, (N,), zero where ignored; what suspicion of rows is made from.
    last_weight_N: Tensor | None = None

    def __call__(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> Float[Tensor, " N"]:
        nll_N = torch.nn.functional.cross_entropy(
            logits_NV if logits_NV.dtype in (torch.float32, torch.float64) else logits_NV.float(),
            target_N,
            ignore_index=IGNORED,
            reduction="none",
        )
        with torch.no_grad():
            weight_N = self.weight(logits_NV.detach(), target_N, nll_N.detach(), context)
        if weight_N is None:
            self.last_weight_N = (target_N != IGNORED).to(nll_N.dtype)
            return nll_N
        self.last_weight_N = torch.where(target_N == IGNORED, torch.zeros_like(weight_N), weight_N)
        return self.last_weight_N * nll_N

    def weight(
        self,
        logits_NV: Float[Tensor, "N V"],
        target_N: Int[Tensor, " N"],
        nll_N: Float[Tensor, " N"],
        context: TokenContext | None,
    ) -> Float[Tensor, " N"] | None:
        """Weights of the tokens, or None for one everywhere (then the loss is cross-entropy to the bit)."""
        raise NotImplementedError

    def observe_human(self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"]) -> None:
        """Look at tokens that people vouch for; losses that adapt measure themselves against them."""

    def step(self, all_reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        """End of an optimizer step. ``all_reduce`` sums a tensor over ranks."""

    def figures(self) -> dict[str, float]:
        """What is worth logging now."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly from a saved state."""


def tailr_weight(log_q_N: Tensor, gamma: Tensor | float) -> Tensor:
    r"""$\omega = q / (\gamma + (1-\gamma) q)$ in log space (Ji et al. 2023, eq. of the released code).

    gamma 0 gives 1, gamma 1 gives q. ``log_q_N`` are log-probabilities of the targets, ``gamma`` a scalar or (N,).
    """
    log_q = log_q_N.clamp(min=LOG_FLOOR)
    gamma = torch.as_tensor(gamma, dtype=log_q.dtype, device=log_q.device).expand_as(log_q)
    inner = gamma.clamp(1e-12, 1 - 1e-7 if log_q.dtype == torch.float32 else 1 - 1e-15)
    weight = torch.exp(log_q - torch.logaddexp(inner.log(), torch.log1p(-inner) + log_q))
    weight = torch.where(gamma >= 1, log_q.exp(), weight)
    return torch.where(gamma <= 0, torch.ones_like(weight), weight).clamp(max=1.0)
