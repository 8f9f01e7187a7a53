"""The interface of a token loss. Shape suffixes: N tokens, V vocabulary, D hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    """What losses may use of each token beside the logits; each field is (N,) or absent.

    Tokens of a sequence stand together and in order.

    ``sequence_N`` numbers the token's sequence within the call.
    ``row_N`` is the row in the dataset, the same in every epoch.
    ``group_N`` is the source whose noise the token shares; -1 where people vouch for the text, which no rule doubts.
    ``generator_logp_N`` is the log-probability (nats) that the annotating model gave the token.
    ``scale_N`` is a factor on the token's loss; one where absent.
    """

    sequence_N: Int[Tensor, " N"] | None = None
    row_N: Int[Tensor, " N"] | None = None
    group_N: Int[Tensor, " N"] | None = None
    generator_logp_N: Float[Tensor, " N"] | None = None
    scale_N: Float[Tensor, " N"] | None = None


@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    r"""The model's figures that weights are made from, without gradient.

    ``nll_N`` is $-\log q_w$ of each target (nats; 0 where ignored), ``vocabulary`` the number of words V.
    ``sharpness_N`` is $c = \sum_v q_v^2$, where the loss asked for it.
    """

    nll_N: Float[Tensor, " N"]
    vocabulary: int
    sharpness_N: Float[Tensor, " N"] | None = None


@runtime_checkable
class WeightPlan(Protocol):
    """What a batch's weights need beside the model's figures, looked up before there are any.

    A device that computes the figures of one chunk after another then never waits for a weight.
    """

    def weight(self, statistics: TokenStatistics, span: slice) -> Float[Tensor, " N"] | None:
        """As :meth:`TokenLoss.weight` for the tokens of ``span``, which are whole sequences; counts nothing."""

    def count(self, statistics: TokenStatistics) -> None:
        """Count what :meth:`TokenLoss.weight` would have counted of the whole batch; once, after all its weights."""


class TokenLoss:
    """A per-token-weighted cross-entropy, unreduced: ``loss(logits_NV, target_N, context) -> (N,)``.

    A loss gives :meth:`weight`; the rest is shared. Weights carry no gradient.

    Losses that adapt keep a state. They have :meth:`step`, called once per optimizer step, and
    ``state_dict``/``load_state_dict``. Nothing that :meth:`weight` gives may depend on what one rank alone saw since
    the last :meth:`step`.
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
    #: Least weight of a token that counts.
    floor = 0.0
    #: The weights of the last call, (N,), zero where ignored; what suspicion of rows is made from.
    last_weight_N: Tensor | None = None

    def __call__(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> Float[Tensor, " N"]:
        """The loss of each token, (N,), in nats; 0 where ignored. Float32 for logits of half precision."""
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

    def weigh(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        """:meth:`weight` over the floor, zero where ignored; None where all are one. Kept in ``last_weight_N``."""
        return self.bounded(self.weight(statistics, target_N, context), statistics, target_N)

    def bounded(
        self, weight_N: Float[Tensor, " N"] | None, statistics: TokenStatistics, target_N: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"] | None:
        """Weights as :meth:`weigh` gives them."""
        live_N = target_N != IGNORED
        if weight_N is None:
            self.last_weight_N = live_N.to(statistics.nll_N.dtype)
            return None
        if self.floor:
            weight_N = weight_N.clamp(min=self.floor)
        self.last_weight_N = torch.where(
            live_N, weight_N.to(statistics.nll_N.dtype), torch.zeros_like(statistics.nll_N)
        )
        return self.last_weight_N

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        """Weights of the tokens, (N,), or None for one everywhere (then the loss is cross-entropy to the bit).

        Called once per token and training step, so that a loss may count what it sees. What it gives for ignored
        targets does not matter.
        """
        raise NotImplementedError

    def planned(self, target_N: Int[Tensor, " N"], vocabulary: int, context: TokenContext | None) -> WeightPlan | None:
        """A plan of a whole batch's weights, or None: then each chunk asks :meth:`weigh`."""
        return None

    def prepare(self, *, num_groups: int) -> None:
        """Make room for this many groups, before the first call: ranks add up tensors of one shape."""

    def observe_human(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        """Measure texts that people vouch for, scored in eval mode; losses that adapt compare the others with them.

        May be called several times between two steps: the parts are added. Every rank must show the same texts.
        """

    def corrupted(
        self, target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> list[tuple[int, Int[Tensor, " N"]]]:
        """People's texts with noise words put in: (group, targets) for each group that wants them scored.

        They are to be scored as inputs too, and shown to :meth:`observe_corrupted` with that group in the context.
        Optional, and asked for just after :meth:`observe_human` was given the same texts.
        """
        return []

    def observe_corrupted(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        """Measure what :meth:`corrupted` gave."""

    def observe_source(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        """Measure texts of the context's groups that are held out from training, when people's are measured.

        A model scores texts that it was taught better than people's, which it was not; held-out ones compare alike.
        Optional: without them a loss that adapts compares with what it is taught. Every rank must show the same texts.
        """

    def step(self, all_reduce: AllReduce | None = None) -> None:
        """End an optimizer step. ``all_reduce`` sums a tensor over ranks."""

    def figures(self) -> dict[str, float]:
        """Figures worth logging now; names that end in ``/g`` are of group g."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that later weights depend on, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on exactly from a saved state."""


def widened(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The logits, float32 where they are less: half precision is too coarse for a softmax."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def sharpness_of(logits_NV: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    r"""$c = \sum_v q_v^2 = \exp(\mathrm{LSE}(2z) - 2\,\mathrm{LSE}(z))$, shape (N,), in [0, 1]."""
    logits = widened(logits_NV)
    return (torch.logsumexp(2 * logits, -1) - 2 * torch.logsumexp(logits, -1)).exp().clamp(max=1.0)


def tailr_weight(log_q_N: Float[Tensor, "*N"], gamma: Tensor | float) -> Float[Tensor, "*N"]:
    r"""$\omega = q / (\gamma + (1-\gamma) q)$ in log space (Ji et al. 2023, eq. of the released code).

    gamma 0 gives 1, gamma 1 gives q. ``log_q_N`` are log-probabilities of the targets, ``gamma`` a scalar or (N,).
    """
    log_q = log_q_N.clamp(min=LOG_FLOOR)
    # A number is written on the device: copied there, a GPU would be waited for.
    gamma = gamma.to(log_q) if isinstance(gamma, Tensor) else log_q.new_full((), gamma)
    gamma = gamma.expand_as(log_q)
    inner = gamma.clamp(1e-12, 1 - 1e-7 if log_q.dtype == torch.float32 else 1 - 1e-15)
    weight = torch.exp(log_q - torch.logaddexp(inner.log(), torch.log1p(-inner) + log_q))
    weight = torch.where(gamma >= 1, log_q.exp(), weight)
    return torch.where(gamma <= 0, torch.ones_like(weight), weight).clamp(max=1.0)


def check_shares(name: str, **values: float) -> None:
    """Raises ValueError where a value is outside [0, 1]."""
    for argument, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: need 0 <= {argument} <= 1, got {value}")


def _product(weight_N: Float[Tensor, " N"], nll_N: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    # A target that the model holds for impossible (its logit is -inf) has an infinite loss; times a weight near zero
    # that is no number to learn from.
    return torch.where(nll_N.isinf() & (weight_N != 1), torch.zeros_like(nll_N), weight_N * nll_N)


def _uniform_nll(logits: Float[Tensor, "N V"], target_N: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    r"""$-\frac{1}{V}\sum_v \log q_v$ over the words that are not masked out, zero where ignored."""
    possible = logits != -torch.inf
    log_q = torch.where(possible, logits.log_softmax(-1), torch.zeros_like(logits))
    value = -log_q.sum(-1) / possible.sum(-1).clamp(min=1)
    return torch.where(target_N == IGNORED, torch.zeros_like(value), value)
