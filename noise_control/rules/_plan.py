"""The mixture rule's weights in two halves: what is looked up of a batch at once, and what each chunk's figures decide.

Ours; ``docs/theory.md`` 4.1 and 4.3. Suffixes: N tokens, S texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from noise_control.interface import LOG_FLOOR, TokenStatistics
from noise_control.rules._look import Measured
from noise_control.rules._scores import HIGHEST, LOWEST, posterior
from noise_control.rules._text_model import Words


@dataclass(frozen=True, kw_only=True)
class TextTrust:
    """Posterior that a text is right, rising with its score, times the share of it that may stand (theory, 4.3)."""

    rate: Float[Tensor, " S"]
    centre: Float[Tensor, " S"]
    right: tuple[Tensor, Tensor]
    wrong: tuple[Tensor, Tensor]
    may_stand: Float[Tensor, " S"]

    @classmethod
    def of(cls, measured: Measured, words: Words, may_stand: Float[Tensor, " S"]) -> TextTrust:
        """What was measured of each text's group."""
        group_S = words.group_S
        return cls(
            rate=measured.text_rate[group_S],
            centre=measured.centre[group_S],
            right=(measured.right_mean[group_S], measured.right_spread[group_S]),
            wrong=(measured.wrong_mean[group_S], measured.wrong_spread[group_S]),
            may_stand=may_stand,
        )

    def __call__(self, score_S: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        trust = posterior(score_S - self.centre, self.rate, self.right, self.wrong)
        return torch.where(self.rate > 0, trust, torch.ones_like(trust)) * self.may_stand


class MixturePlan:
    """A batch's weights (:class:`noise_control.interface.WeightPlan`); no step of a chunk waits for the device.

    Without ``log_odds`` all weights are one. ``log_m`` and ``trust`` are of the texts' side, where it is looked for.
    ``count`` gets the log-probability of each word that nobody vouches for.
    """

    def __init__(
        self,
        words: Words,
        live_N: Bool[Tensor, " N"],
        count: Callable[[Tensor], None],
        log_odds: Float[Tensor, " live"] | None = None,
        log_m: Float[Tensor, " live"] | None = None,
        trust: TextTrust | None = None,
    ) -> None:
        self._live_N, self._at, self._count, self._trust = live_N, live_N.nonzero()[:, 0], count, trust
        self._log_odds_N = None if log_odds is None else self._spread(log_odds, 0.0)
        self._log_m_N = None if log_m is None else self._spread(log_m, 0.0)
        # Tokens that do not count are of a text behind the last, which is thrown away.
        self._text_N = self._spread(words.text, len(words.first))
        self._lengths = words.lengths()

    def _spread(self, values: Tensor, fill: float) -> Tensor:
        out = torch.full(self._live_N.shape, fill, dtype=values.dtype, device=values.device)
        return out.index_copy_(0, self._at, values)

    def weight(self, statistics: TokenStatistics, span: slice) -> Float[Tensor, " N"] | None:
        if self._log_odds_N is None:
            return None
        log_q = -statistics.nll_N.double()
        weight = torch.sigmoid(log_q.clamp(min=LOG_FLOOR) - self._log_odds_N[span])
        if self._trust is not None and self._log_m_N is not None:
            evidence, text = (log_q - self._log_m_N[span]).clamp(LOWEST, HIGHEST), self._text_N[span]
            count = len(self._lengths)
            sums_S = torch.zeros(count + 1, dtype=evidence.dtype, device=evidence.device).index_add_(0, text, evidence)
            weight = self._trust(sums_S[:count] / self._lengths)[text.clamp(max=count - 1)] * weight
        return torch.where(self._live_N[span], weight, torch.ones_like(weight)).to(statistics.nll_N.dtype)

    def count(self, statistics: TokenStatistics) -> None:
        self._count(-statistics.nll_N[self._at].double())
