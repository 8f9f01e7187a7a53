"""The output layer, a chunk of tokens at a time: logits, what losses need of them, and the slope in their place.

Shape suffixes: D hidden, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from noise_control.interface import IGNORED, TokenLoss, TokenStatistics, widened


@dataclass(frozen=True, kw_only=True)
class RowStatistics(TokenStatistics):
    """A chunk's statistics; ``uniform_nll`` is the mean of -log q over the possible words, where the loss smooths."""

    uniform_nll: Tensor | None

    def plain(self) -> TokenStatistics:
        """What token losses are shown."""
        return TokenStatistics(nll_N=self.nll_N, vocabulary=self.vocabulary, sharpness_N=self.sharpness_N)


S = TypeVar("S", bound=TokenStatistics)


@runtime_checkable
class Head(Protocol):
    """What computes the rows of a chunk; a buffer of logits is the head's, and the next chunk takes it over."""

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """(C, V)."""

    def statistics(self, logits_CV: Tensor, target_C: Tensor) -> RowStatistics:
        """What losses need of each row."""

    def again(self, hidden_CD: Tensor, target_C: Tensor, known: RowStatistics | None) -> tuple[Tensor, RowStatistics]:
        """Logits once more, and their statistics; ``known`` are the same rows' of before."""

    def slope(self, logits_CV: Tensor, statistics: Any, target_C: Tensor, weighted_C: Tensor, even_C: Tensor) -> Tensor:
        """The loss's slope on what the layer gives, in place of the logits.

        ``weighted_C`` is the factor of each target's -log q, ``even_C`` that of the uniform distribution's.
        """

    def keeps(self) -> bool:
        """Whether a call's statistics are small, and of use to :meth:`again`."""


def value(loss: TokenLoss, statistics: RowStatistics, weight_C: Tensor, scale_C: Tensor | None) -> Tensor:
    """The loss of each token, as :class:`TokenLoss` has it."""
    nll = statistics.nll_N
    # A weight of one keeps an infinite loss; any other takes it out, as TokenLoss does.
    value = torch.where(nll.isinf() & (weight_C != 1), torch.zeros_like(nll), weight_C * nll)
    if statistics.uniform_nll is not None:
        value = (1 - loss.smoothing) * value + loss.smoothing * statistics.uniform_nll
    return value if scale_C is None else value * scale_C


def factors(
    loss: TokenLoss, statistics: RowStatistics, target_C: Tensor, weight_C: Tensor, factor_C: Tensor
) -> tuple[Tensor, Tensor]:
    """The factors of -log q and of the uniform distribution's in :func:`value` times ``factor_C``; 0 where ignored."""
    live, nothing = target_C != IGNORED, torch.zeros_like(weight_C)
    counted = live & ~(statistics.nll_N.isinf() & (weight_C != 1))
    weighted = torch.where(counted, factor_C * weight_C * (1 - loss.smoothing), nothing)
    return weighted, torch.where(live, factor_C * loss.smoothing, nothing)


def joined(parts: list[S]) -> S:
    """Statistics of chunks as one: the figures of rows one after the other, in the first one's class."""

    def one(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return torch.cat(values) if isinstance(values[0], Tensor) else values[0]

    return type(parts[0])(**{field.name: one(field.name) for field in fields(parts[0])})


def cut(statistics: S, span: slice) -> S:
    """The statistics of some rows."""
    parts: dict[str, Any] = {name: x[span] if isinstance(x, Tensor) else x for name, x in vars(statistics).items()}
    return type(statistics)(**parts)


@dataclass(frozen=True, kw_only=True)
class _TorchStatistics(RowStatistics):
    total: Tensor
    possible: Tensor | None
    capped: Tensor | None


class TorchHead:
    """The layer in plain torch, on any device; logits are float32 where they would be less."""

    def __init__(self, weight: Tensor, bias: Tensor | None, loss: TokenLoss, soft_cap: float | None) -> None:
        self._weight, self._bias, self._cap, self._loss = weight, bias, soft_cap, loss
        self._buffer: Tensor | None = None

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """(C, V), in memory that the next chunk takes over where types allow."""
        if self._buffer is None or len(self._buffer) < len(hidden_CD):
            self._buffer = hidden_CD.new_empty(len(hidden_CD), len(self._weight))
        logits = torch.mm(hidden_CD, self._weight.T, out=self._buffer[: len(hidden_CD)])
        if self._bias is not None:
            logits += self._bias
        logits = widened(logits)
        return logits if self._cap is None else logits.div_(self._cap).tanh_().mul_(self._cap)

    def statistics(self, logits_CV: Tensor, target_C: Tensor) -> _TorchStatistics:
        r"""The figures that weights need; leaves $e^{z - \max z}$ where the logits were, for the slope."""
        live = target_C != IGNORED
        target_logit = logits_CV.gather(1, target_C.clamp(min=0)[:, None])[:, 0]
        possible = mean = capped = None
        if self._loss.smoothing:
            possible = logits_CV != -torch.inf
            mean = torch.where(possible, logits_CV, torch.zeros_like(logits_CV)).sum(-1) / possible.sum(-1).clamp(min=1)
        if self._cap is not None:
            capped = 1 - (logits_CV / self._cap) ** 2
        highest = logits_CV.amax(-1)
        total = logits_CV.sub_(highest[:, None]).exp_().sum(-1)
        lse = highest + total.log()
        sharpness = None
        if self._loss.wants_sharpness:
            sharpness = (torch.linalg.vector_norm(logits_CV, dim=-1) / total).square().clamp(max=1.0)
        uniform = None if mean is None else torch.where(live, lse - mean, torch.zeros_like(lse))
        return _TorchStatistics(
            nll_N=torch.where(live, lse - target_logit, torch.zeros_like(lse)),
            vocabulary=logits_CV.shape[1],
            sharpness_N=sharpness,
            total=total,
            uniform_nll=uniform,
            possible=possible,
            capped=capped,
        )

    def again(
        self, hidden_CD: Tensor, target_C: Tensor, known: RowStatistics | None
    ) -> tuple[Tensor, _TorchStatistics]:
        logits = self.logits(hidden_CD)
        return logits, self.statistics(logits, target_C)

    def slope(
        self, exponentials_CV: Tensor, statistics: Any, target_C: Tensor, weighted_C: Tensor, even_C: Tensor
    ) -> Tensor:
        """In place of the exponentials that :meth:`statistics` left."""
        slope = exponentials_CV.mul_(((weighted_C + even_C) / statistics.total)[:, None])
        if statistics.possible is not None:
            slope -= statistics.possible * (even_C / statistics.possible.sum(-1).clamp(min=1))[:, None]
        slope.scatter_add_(1, target_C.clamp(min=0)[:, None], -weighted_C[:, None])
        return slope if statistics.capped is None else slope.mul_(statistics.capped)

    def keeps(self) -> bool:
        return False
