"""The base of losses that drop the worst share of late: a threshold, a warm-up without it, and their state."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from noise_control.interface import AllReduce, TokenLoss, check_shares
from noise_control.losses._quantile import RunningQuantile


class Truncation(TokenLoss):
    """Drops ``share`` by the running quantile of values up to ``top``.

    Share 0 and the first ``warmup_steps`` drop none.
    """

    def __init__(self, name: str, top: float, share: float, warmup_steps: int, memory_steps: float) -> None:
        check_shares(name, share=share)
        if warmup_steps < 0 or memory_steps <= 0:
            raise ValueError(f"{name}: need warmup_steps >= 0 and memory_steps > 0, got {warmup_steps}, {memory_steps}")
        self.share, self.warmup_steps = share, warmup_steps
        self._quantile = RunningQuantile(top, memory_steps)
        self._steps = 0

    def kept(self, values: Float[Tensor, " S"], among: Float[Tensor, " live"]) -> Bool[Tensor, " S"] | None:
        """Which of ``values`` stay, once the values of ``among`` were counted; None where all do."""
        self._quantile.add(among)
        if self._steps < self.warmup_steps or self.share == 0:
            return None
        return values <= self.threshold()

    def threshold(self) -> float:
        """The highest value that is kept."""
        return self._quantile.threshold(1 - self.share)

    def step(self, all_reduce: AllReduce | None = None) -> None:
        self._quantile.step(all_reduce)
        self._steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self._quantile.counts, "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._quantile.counts = state["counts"].cpu().clone()
        self._steps = int(state["steps"])
