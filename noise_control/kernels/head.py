"""The output layer by Triton's two passes, in the logits' own type.

Importing this needs Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noise_control.heads import RowStatistics
from noise_control.interface import TokenLoss
from noise_control.kernels.rows import Rows, row_statistics, slope_in_place

#: Rows of the buffer begin at multiples of this many logits, so that loads are 16 bytes wide whatever the vocabulary.
ALIGNED = 16


@dataclass(frozen=True, kw_only=True)
class _TritonStatistics(RowStatistics):
    highest: Tensor
    total: Tensor
    possible: Tensor | None


class TritonHead:
    """The layer with one buffer of logits, which the slope takes over."""

    def __init__(self, weight: Tensor, bias: Tensor | None, loss: TokenLoss, soft_cap: float | None) -> None:
        self._weight, self._bias, self._cap, self._loss = weight, bias, soft_cap, loss
        self._buffer: Tensor | None = None

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """(C, V) without bias and cap, which both passes put on as they read."""
        rows, words = len(hidden_CD), len(self._weight)
        if self._buffer is None or len(self._buffer) < rows:
            self._buffer = None
            self._buffer = hidden_CD.new_empty(rows, -(-words // ALIGNED) * ALIGNED)
        return torch.mm(hidden_CD, self._weight.T, out=self._buffer[:rows, :words])

    def statistics(self, logits_CV: Tensor, target_C: Tensor) -> _TritonStatistics:
        rows = row_statistics(
            logits_CV,
            target_C,
            self._bias,
            self._cap,
            sharpness=self._loss.wants_sharpness,
            smoothing=bool(self._loss.smoothing),
        )
        return _TritonStatistics(
            nll_N=rows.nll,
            vocabulary=logits_CV.shape[1],
            sharpness_N=rows.sharpness,
            uniform_nll=rows.uniform_nll,
            highest=rows.highest,
            total=rows.total,
            possible=rows.possible,
        )

    def again(self, hidden_CD: Tensor, target_C: Tensor, known: Any) -> tuple[Tensor, RowStatistics]:
        logits = self.logits(hidden_CD)
        return logits, self.statistics(logits, target_C) if known is None else known

    def slope(self, logits_CV: Tensor, statistics: Any, target_C: Tensor, weighted_C: Tensor, even_C: Tensor) -> Tensor:
        rows = Rows(
            nll=statistics.nll_N,
            highest=statistics.highest,
            total=statistics.total,
            sharpness=None,
            uniform_nll=None,
            possible=statistics.possible,
        )
        even = even_C if self._loss.smoothing else None
        return slope_in_place(logits_CV, target_C, rows, weighted_C, even, self._bias, self._cap)

    def keeps(self) -> bool:
        return True
