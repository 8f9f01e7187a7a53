"""What is learned from pairs of texts: direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290).

Shape suffixes: B texts, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control import TokenContext, TokenLoss, TokenStatistics

#: What a text of a batch is: one to learn, the better or the worse one of a pair, or there for its form alone.
LEARNED, CHOSEN, REJECTED, FILLER = 0, 1, 2, -1
#: How much of the figures before a step stays in them: they are of some twenty steps.
_KEPT = 0.95
_FIGURES = ("chosen_reward", "rejected_reward", "margin", "pair_accuracy")


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Summed log-probs of each pair's texts, in nats, under the model and under the one that it began as."""

    chosen_P: Float[Tensor, " P"]
    rejected_P: Float[Tensor, " P"]
    base_chosen_P: Float[Tensor, " P"]
    base_rejected_P: Float[Tensor, " P"]

    @classmethod
    def of(cls, logprob_B: Float[Tensor, " B"], base_B: Float[Tensor, " B"], part_B: Int[Tensor, " B"]) -> PairScores:
        """Those of a batch, in which a pair's texts follow each other in one order for all pairs."""
        chosen, rejected = part_B == CHOSEN, part_B == REJECTED
        return cls(
            chosen_P=logprob_B[chosen],
            rejected_P=logprob_B[rejected],
            base_chosen_P=base_B[chosen],
            base_rejected_P=base_B[rejected],
        )


def dpo_loss(scores: PairScores, beta: float) -> Float[Tensor, " P"]:
    r"""$-\log \sigma(\beta (\log\frac{\pi(c)}{\pi_0(c)} - \log\frac{\pi(r)}{\pi_0(r)}))$ of each pair."""
    chosen, rejected = rewards(scores, beta)
    return -torch.nn.functional.logsigmoid(chosen - rejected)


def rewards(scores: PairScores, beta: float) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    r"""$\beta \log(\pi / \pi_0)$ of the chosen and of the rejected texts: what the model has come to prefer."""
    return beta * (scores.chosen_P - scores.base_chosen_P), beta * (scores.rejected_P - scores.base_rejected_P)


class PairLoss(TokenLoss):
    """Plain likelihood of tokens, with what turns the log-probs of pairs into a loss, and their figures.

    Figures are means over the pairs of some twenty steps, the newest counting most, of all ranks.
    """

    def __init__(self, *, beta: float, weight: float) -> None:
        """``weight`` is that of the pairs' mean loss beside the texts' mean loss per token."""
        self._beta, self._weight = beta, weight
        #: Sums of the figures, then the pairs that they are of: of steps so far, and of the one under way.
        self._sums = torch.zeros(len(_FIGURES) + 1, dtype=torch.float64)
        self._now = torch.zeros_like(self._sums)

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        return None

    def of_pairs(self, scores: PairScores, weight_P: Float[Tensor, " P"]) -> Float[Tensor, ""]:
        """The pairs' summed loss, each with its weight; counted for :meth:`figures`."""
        with torch.no_grad():
            chosen, rejected = rewards(scores, self._beta)
            right = (chosen > rejected).to(chosen)
            rows = torch.stack([chosen, rejected, chosen - rejected, right, torch.ones_like(right)])
            self._now += rows.double().sum(1).cpu()
        return self._weight * (weight_P * dpo_loss(scores, self._beta)).sum()

    def step(self, all_reduce: Any = None) -> None:
        now = all_reduce(self._now) if all_reduce is not None else self._now
        self._sums = _KEPT * self._sums + now
        self._now = torch.zeros_like(self._sums)

    def figures(self) -> dict[str, float]:
        count = float(self._sums[-1])
        return {name: float(self._sums[i]) / count for i, name in enumerate(_FIGURES)} if count else {}

    def state_dict(self) -> dict[str, Tensor]:
        return {"pair_sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._sums = state["pair_sums"].cpu().clone()
