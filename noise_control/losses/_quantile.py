"""A running quantile that ranks can share: a decayed histogram, whose counts add up."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from noise_control.interface import AllReduce

_BINS = 2048


class RunningQuantile:
    """Quantiles of the values seen, of resolution ``top / 2048``; values over ``top`` count as ``top``.

    What was seen counts half after ``memory_steps``.
    """

    def __init__(self, top: float, memory_steps: float) -> None:
        self._top, self._decay = top, 0.5 ** (1 / memory_steps)
        self.counts = torch.zeros(_BINS, dtype=torch.float64)
        self._pending = torch.zeros(_BINS, dtype=torch.float64)

    def add(self, values: Float[Tensor, " S"]) -> None:
        """Count values, for the next :meth:`step`."""
        bins = (values.double() / self._top * _BINS).nan_to_num(posinf=_BINS).long().clamp(0, _BINS - 1)
        self._pending += torch.bincount(bins, minlength=_BINS).cpu()

    def step(self, all_reduce: AllReduce | None) -> None:
        """Decay the counts and add the new ones, of all ranks."""
        pending = all_reduce(self._pending) if all_reduce is not None else self._pending
        self.counts = self.counts * self._decay + pending
        self._pending = torch.zeros_like(self.counts)

    def threshold(self, share: float) -> float:
        """The value under which ``share`` of the values lie; infinity before any was seen."""
        total = self.counts.sum()
        if total == 0:
            return float("inf")
        index = int(torch.searchsorted(self.counts.cumsum(0), share * total).clamp(max=_BINS - 1))
        return float("inf") if index == _BINS - 1 else (index + 1) * self._top / _BINS
