r"""AdaTaiLr: TaiLr whose gamma adapts itself. The paper's own formula (Video DataFlywheel, arXiv 2409.19532) is not public;
what adapts here is ours, a documented reconstruction, behind an interface that lets another rule replace it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from noise_control import rules
from noise_control.interface import AllReduce, TokenContext, TokenLoss, TokenStatistics, check_shares


class AdaTailr(TokenLoss):
    """Delegates to a rule; the floor is its own."""

    adapts = True

    def __init__(self, rule: rules.AdaptiveRule, floor: float) -> None:
        self.rule, self.floor = rule, floor
        self.wants_sharpness, self.wants_sequences = rule.wants_sharpness, rule.wants_sequences

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        weight_N = self.rule.weight(statistics, target_N, context)
        return weight_N if weight_N is None else weight_N.clamp(min=self.floor)

    def prepare(self, *, num_groups: int) -> None:
        self.rule.prepare(num_groups=num_groups)

    def observe_human(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        self.rule.observe_human(logits_NV.detach(), target_N, context)

    def corrupted(self, target_N: Tensor, context: TokenContext | None = None) -> list[tuple[int, Tensor]]:
        return self.rule.corrupted(target_N, context)

    def observe_corrupted(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        self.rule.observe_corrupted(logits_NV.detach(), target_N, context)

    def observe_source(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None = None) -> None:
        self.rule.observe_source(logits_NV.detach(), target_N, context)

    def step(self, all_reduce: AllReduce | None = None) -> None:
        self.rule.step(all_reduce)

    def noise_rates(self) -> Tensor:
        return self.rule.noise_rates()

    def figures(self) -> dict[str, float]:
        return self.rule.figures()

    def state_dict(self) -> dict[str, Tensor]:
        return self.rule.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.rule.load_state_dict(state)


def adatailr(rule: str = "mixture", floor: float = 0.0, **arguments: Any) -> TokenLoss:
    r"""$\omega_t = q_t / (\gamma_t + (1-\gamma_t) q_t)$ with a gamma per token and a trust per text that nobody sets (ours, a
    reconstruction of Video DataFlywheel's AdaTaiLr; never its own formula).

    ``rule`` names what adapts: ``mixture`` (the default) or ``sharpness`` (the first reconstruction); ``arguments`` are the
    rule's. Rules measure noise against people's texts (:meth:`TokenLoss.observe_human`); before they have seen any, and where
    they find none, the loss is cross-entropy to the bit. ``floor`` bounds weights from below. Returns ``(N,)``, unreduced.
    Raises ValueError for values out of range, UserError for an unknown rule or argument.
    """
    check_shares("adatailr", floor=floor)
    return AdaTailr(rules.build(rule, **arguments), floor)
