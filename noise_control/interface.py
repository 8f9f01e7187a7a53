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

#: Sums a tensor over ranks.
AllReduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TokenContext:
    """What some rules need to know of each token: its sequence, its row in the dataset (the same in every epoch), its group
    (source x round x kind; -1 where people vouch for the text, which no rule doubts), the log-probability that the annotating
    model gave it, and a factor on its loss (one where absent). Tokens of a sequence stand together and in order."""

    sequence_N: Int[Tensor, " N"] | None = None
    row_N: Int[Tensor, " N"] | None = None
    group_N: Int[Tensor, " N"] | None = None
    generator_logp_N: Float[Tensor, " N"] | None = None
    scale_N: Float[Tensor, " N"] | None = None


@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    """What weights are made from, without gradient: $-\\log q_w$ of each target (0 where ignored), the size of the
    vocabulary, and $c = \\sum_v q_v^2$ where the loss asked for it."""

    nll_N: Float[Tensor, " N"]
    vocabulary: int
    sharpness_N: Float[Tensor, " N"] | None = None


class TokenLoss:
    """A per-token-weighted cross-entropy, unreduced: ``loss(logits_NV, target_N, context) -> (N,)``.

    A loss gives :meth:`weight`; the rest is shared. Weights carry no gradient. Losses that adapt keep a state: they have
    :meth:`step`, called once per optimizer step, and ``state_dict``/``load_state_dict``.
    """

    built_from: tuple[str, dict[str, Any]] = ("", {})
    #: Whether :meth:`observe_human` does anything: showing people's texts costs a forward pass of each.
    adapts = False
    #: Whether :meth:`weight` wants ``sharpness_N``: one more log-sum-exp per token.
    wants_sharpness = False
    #: Whether a token's weight depends on the rest of its sequence: :meth:`weight` then gets whole sequences.
    wants_sequences = False
    #: Share of each token's loss that goes to the uniform distribution over the vocabulary; never weighted.
    smoothing = 0.0
    #: The weights of the last call, (N,), zero where ignored; what suspicion of rows is made from.
    last_weight_N: Tensor | None = None

    def __call__(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> Float[Tensor, " N"]:
        logits = widened(logits_NV)
        nll_N = torch.nn.functional.cross_entropy(logits, target_N, ignore_index=IGNORED, reduction="none")
        with torch.no_grad():
            sharpness = sharpness_of(logits) if self.wants_sharpness else None
            statistics = TokenStatistics(nll_N=nll_N.detach(), vocabulary=logits.shape[1], sharpness_N=sharpness)
            weight_N = self.weigh(statistics, target_N, context)
        loss_N = nll_N if weight_N is None else _product(weight_N, nll_N)
        if self.smoothing:
            loss_N = (1 - self.smoothing) * loss_N + self.smoothing * _uniform_nll(logits, target_N)
        return loss_N if context is None or context.scale_N is None else loss_N * context.scale_N

    def weigh(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        """:meth:`weight` with ignored targets at zero, kept in ``last_weight_N``; None where all are one."""
        weight_N = self.weight(statistics, target_N, context)
        live_N = target_N != IGNORED
        if weight_N is None:
            self.last_weight_N = live_N.to(statistics.nll_N.dtype)
            return None
        self.last_weight_N = torch.where(
            live_N, weight_N.to(statistics.nll_N.dtype), torch.zeros_like(statistics.nll_N)
        )
        return self.last_weight_N

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        """Weights of the tokens, (N,), or None for one everywhere (then the loss is cross-entropy to the bit).

        Called once per token and training step, so that a loss may count what it sees.
        """
        raise NotImplementedError

    def prepare(self, *, num_groups: int) -> None:
        """Say how many groups there are, before the first call: what ranks add up must have one shape on all of them."""

    def observe_human(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        """Look at texts that people vouch for, scored in eval mode; losses that adapt measure themselves against them.

        May be called several times between two steps: the parts are added. Every rank must show the same texts.
        """

    def corrupted(self, target_N: Tensor, context: TokenContext | None = None) -> list[tuple[int, Tensor]]:
        """People's texts with words of a group's noise in them, for each group that wants to know how the model scores such
        texts: (group, targets). To be scored as inputs too, and shown to :meth:`observe_corrupted` with that group in the context.

        Optional, and asked for just after :meth:`observe_human` was given the same texts.
        """
        return []

    def observe_corrupted(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        """Look at what :meth:`corrupted` gave."""

    def observe_source(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        """Look at texts of the context's groups that are held out from training, at the same moment as at people's and as often.

        A model knows texts that it was taught better than people's that it was not; held-out ones compare alike. Optional:
        without them a loss that adapts compares with what it is taught. Every rank must show the same texts.
        """

    def step(self, all_reduce: AllReduce | None = None) -> None:
        """End of an optimizer step. ``all_reduce`` sums a tensor over ranks."""

    def figures(self) -> dict[str, float]:
        """What is worth logging now; names that end in ``/g`` are of group g."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on exactly from a saved state."""


def widened(logits: Tensor) -> Tensor:
    """Half precision is too coarse for a softmax: float32 where it is less."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def sharpness_of(logits_NV: Tensor) -> Tensor:
    r"""$c = \sum_v q_v^2 = \exp(\mathrm{LSE}(2z) - 2\,\mathrm{LSE}(z))$, shape (N,), in [0, 1]."""
    logits = widened(logits_NV)
    return (torch.logsumexp(2 * logits, -1) - 2 * torch.logsumexp(logits, -1)).exp().clamp(max=1.0)


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


def check_shares(name: str, **values: float) -> None:
    """Raises ValueError where a value is outside [0, 1]."""
    for argument, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: need 0 <= {argument} <= 1, got {value}")


def _product(weight_N: Tensor, nll_N: Tensor) -> Tensor:
    # A target that the model holds for impossible (its logit is -inf) has an infinite loss; times a weight near zero that
    # is no number to learn from.
    return torch.where(nll_N.isinf() & (weight_N != 1), torch.zeros_like(nll_N), weight_N * nll_N)


def _uniform_nll(logits: Tensor, target_N: Tensor) -> Tensor:
    """$-\\frac{1}{V}\\sum_v \\log q_v$ over the words that are not masked out, zero where ignored."""
    possible = logits != -torch.inf
    log_q = torch.where(possible, logits.log_softmax(-1), torch.zeros_like(logits))
    value = -log_q.sum(-1) / possible.sum(-1).clamp(min=1)
    return torch.where(target_N == IGNORED, torch.zeros_like(value), value)
