"""What an adaptive rule is, and the running sums that most of them live on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noise_control.interface import IGNORED, AllReduce, TokenContext, TokenStatistics


class AdaptiveRule:
    """Weights from what was measured so far. :meth:`weight` counts what it sees, :meth:`step` takes it into account.

    Nothing that :meth:`weight` gives may depend on what one rank alone saw since the last :meth:`step`.
    """

    built_from: tuple[str, dict[str, Any]] = ("", {})
    wants_sharpness = False
    wants_sequences = False

    def prepare(self, *, num_groups: int) -> None:
        """Make room for this many groups."""

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        """(N,), in [0, 1]; None for one everywhere. What it gives for ignored targets does not matter."""
        raise NotImplementedError

    def observe_human(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        """Count texts that people vouch for."""

    def corrupted(self, target_N: Tensor, context: TokenContext | None) -> list[tuple[int, Tensor]]:
        """People's texts with noise words of groups in them: what the rule wants scored next."""
        return []

    def observe_corrupted(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        """Count what :meth:`corrupted` gave."""

    def observe_source(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        """Count texts of groups that are held out from training."""

    def step(self, all_reduce: AllReduce | None) -> None:
        """Take what was counted into account."""

    def noise_rates(self) -> Tensor:
        """The measured share of noise of each group, float64 (G,)."""
        return torch.zeros(0, dtype=torch.float64)

    def figures(self) -> dict[str, float]:
        return {f"noise_rate/{g}": rate for g, rate in enumerate(self.noise_rates().tolist())}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on exactly from a saved state."""


def group_of(context: TokenContext | None, target_N: Tensor) -> Tensor:
    """Group of each token, (N,); all of them group 0 where nobody said."""
    if context is None or context.group_N is None:
        return torch.zeros_like(target_N)
    return context.group_N.to(target_N.device)


def doubtful(context: TokenContext | None, target_N: Tensor) -> Tensor:
    """Tokens that count and that nobody vouches for, (N,) bool."""
    return (target_N != IGNORED) & (group_of(context, target_N) >= 0)


def grown(table: Tensor, size: int) -> Tensor:
    """``table`` with at least ``size`` rows, new ones zero."""
    return torch.cat([table, table.new_zeros(size - len(table), *table.shape[1:])]) if size > len(table) else table
