r"""The first reconstruction: gamma from a group's noise rate and the model's own sharpness at the token (ours).

Derivation in ``docs/theory.md``, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise_control.interface import (
    IGNORED,
    AllReduce,
    TokenContext,
    TokenStatistics,
    WeightPlan,
    check_shares,
    sharpness_of,
    tailr_weight,
    widened,
)
from noise_control.rules._base import AdaptiveRule, doubtful, group_of, grown

_GAMMA_FLOOR = 1e-9


def target_gamma(noise_rate: Float[Tensor, "*#N"], sharpness: Float[Tensor, "*#N"]) -> Float[Tensor, "*#N"]:
    r"""$\gamma(\epsilon, c) = \epsilon^2 c / (1 - c + 2 \epsilon c)$: the proxy's best gamma at the clean fit (ours).

    ``sharpness`` is $c = \sum_v q_v^2$. 0 at noise rate 0, towards $\epsilon/2$ as c goes to 1; increasing in both.
    """
    return noise_rate**2 * sharpness / ((1 - sharpness).clamp(min=0) + 2 * noise_rate * sharpness + 1e-12)


def _weight(
    statistics: TokenStatistics, rate_N: Float[Tensor, " N"], live_N: Bool[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """TaiLr's weights where the group is noisy, of tokens that nobody vouches for; else one."""
    assert statistics.sharpness_N is not None
    rate = rate_N.to(statistics.sharpness_N)
    gamma = target_gamma(rate, statistics.sharpness_N).clamp(min=_GAMMA_FLOOR)
    # A clean group is plain cross-entropy, to the bit: the floor of gamma may not touch it.
    return torch.where(live_N & (rate > 0), tailr_weight(-statistics.nll_N, gamma), torch.ones_like(rate))


class _Plan:
    """A batch's weights (:class:`noise_control.interface.WeightPlan`); without rates all are one."""

    def __init__(
        self, rate_N: Float[Tensor, " N"] | None, live_N: Bool[Tensor, " N"], count: Callable[[TokenStatistics], None]
    ) -> None:
        self._rate_N, self._live_N, self.count = rate_N, live_N, count

    def weight(self, statistics: TokenStatistics, span: slice) -> Float[Tensor, " N"] | None:
        return None if self._rate_N is None else _weight(statistics, self._rate_N[span], self._live_N[span])


class Sharpness(AdaptiveRule):
    """TaiLr with a gamma per token, from the group's noise rate and the model's sharpness.

    Its state are the decayed sums of q and c and their count, of each group and of people's tokens (float64, on the
    CPU).
    """

    wants_sharpness = True

    def __init__(self, noise_max: float, decay: float, warmup_steps: int) -> None:
        self.noise_max, self.decay, self.warmup_steps = noise_max, decay, warmup_steps
        self._sums = torch.zeros(0, 3, dtype=torch.float64)
        self._pending = torch.zeros(0, 3, dtype=torch.float64)
        self._human = torch.zeros(3, dtype=torch.float64)
        self._steps = 0
        self._human_step = 0

    def prepare(self, *, num_groups: int) -> None:
        self._pending = grown(self._pending, num_groups)

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        assert statistics.sharpness_N is not None
        c_N, nll_N, group_N = statistics.sharpness_N, statistics.nll_N, group_of(context, target_N)
        live = doubtful(context, target_N)
        self._count(group_N[live], (-nll_N[live]).exp(), c_N[live])
        rates = self.noise_rates()
        if not bool((rates > 0).any()):
            return None
        return _weight(statistics, rates.to(c_N)[group_N.clamp(min=0)], live)

    def planned(self, target_N: Int[Tensor, " N"], vocabulary: int, context: TokenContext | None) -> WeightPlan | None:
        group_N, live = group_of(context, target_N), doubtful(context, target_N)
        if len(group_N):
            self._pending = grown(self._pending, int(group_N.max()) + 1)
        rates = self.noise_rates()
        noisy = bool((rates > 0).any())
        rate_N = rates.to(target_N.device)[group_N.clamp(min=0)] if noisy else None

        def count(statistics: TokenStatistics) -> None:
            assert statistics.sharpness_N is not None
            self._count(group_N[live], (-statistics.nll_N[live]).exp(), statistics.sharpness_N[live])

        return _Plan(rate_N, live, count)

    def _count(self, group: Int[Tensor, " live"], q: Float[Tensor, " live"], c: Float[Tensor, " live"]) -> None:
        if not len(group):
            return
        self._pending = grown(self._pending, int(group.max()) + 1)
        values = torch.stack([q, c, torch.ones_like(q)], dim=1).double().cpu()
        self._pending.index_add_(0, group.cpu(), values)

    def noise_rates(self) -> Float[Tensor, " G"]:
        r"""$\hat\epsilon = \mathrm{clip}(1 - (a_s/c_s)/(a_h/c_h), 0, \epsilon_{max})$ of each group, float64 (G,).

        0 during warm-up and where nothing was seen.
        """
        rates = torch.zeros(max(len(self._sums), len(self._pending)), dtype=torch.float64)
        a_h, c_h, n_h = self._human.tolist()
        if self._steps < self.warmup_steps or n_h == 0 or a_h <= 0:
            return rates
        a, c, n = self._sums.unbind(1)
        seen = (n > 0) & (c > 0)
        ratio = torch.where(seen, (a / c.clamp(min=1e-300)) / (a_h / c_h), torch.ones_like(a))
        rates[: len(ratio)] = (1 - ratio).clamp(0, self.noise_max)
        return rates

    def observe_human(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        live = target_N != IGNORED
        logits = widened(logits_NV[live].detach())
        q = logits.log_softmax(-1).gather(1, target_N[live, None])[:, 0].exp()
        values = torch.stack([q.sum(), sharpness_of(logits).sum(), q.new_tensor(float(len(q)))])
        # The same decay per step as the groups', whatever the distance between looks: then its bias cancels in the
        # ratio.
        self._human = self._human * self.decay ** (self._steps - self._human_step) + values.double().cpu()
        self._human_step = self._steps

    def step(self, all_reduce: AllReduce | None = None) -> None:
        # Sums and counts are what is added over ranks; ratios are made after.
        pending = all_reduce(self._pending) if all_reduce is not None else self._pending
        self._sums = grown(self._sums, len(pending)) * self.decay + pending
        self._pending = torch.zeros_like(self._sums)
        self._steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "sums": self._sums,
            "human": self._human,
            "steps": torch.tensor(self._steps),
            "human_step": torch.tensor(self._human_step),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        # They live on the CPU, wherever the state was read to.
        self._sums, self._human = state["sums"].cpu().clone(), state["human"].cpu().clone()
        self._pending = torch.zeros_like(self._sums)
        self._steps, self._human_step = int(state["steps"]), int(state["human_step"])


def sharpness(noise_max: float = 0.9, decay: float = 0.98, warmup_steps: int = 25) -> AdaptiveRule:
    r"""$\gamma_t = \hat\epsilon_g^2 c_t / (1 - c_t + 2 \hat\epsilon_g c_t)$ per token (ours).

    $\hat\epsilon_g$ is the group's noise rate, measured against people's tokens.
    ``noise_max`` bounds the rate, ``decay`` is the sums' memory per step; for the first ``warmup_steps`` the rate is 0.
    Raises ValueError for values out of range.
    """
    check_shares("sharpness", noise_max=noise_max, decay=decay)
    if warmup_steps < 0:
        raise ValueError(f"sharpness: need warmup_steps >= 0, got {warmup_steps}")
    return Sharpness(noise_max, decay, warmup_steps)
