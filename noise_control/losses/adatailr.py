r"""AdaTaiLr-R: a documented reconstruction of Video DataFlywheel's adaptive loss; the paper's own formula is not public.

Ours; derivation and tests in ``docs/method.md``. TaiLr's gamma is set per token from two things: the noise rate of the
token's group (source x round x kind), measured against tokens that people vouch for, and the model's own sharpness there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noise_control.interface import IGNORED, TokenContext, TokenLoss, tailr_weight

_GAMMA_FLOOR = 1e-9


def target_gamma(noise_rate: Tensor, sharpness: Tensor) -> Tensor:
    r"""$\gamma(\epsilon, c) = \epsilon^2 c / (1 - c + 2 \epsilon c)$: the proxy's best gamma at the clean fit (ours).

    ``sharpness`` is $c = \sum_v q_v^2$. 0 at noise rate 0, towards $\epsilon/2$ as c goes to 1; increasing in both.
    """
    return noise_rate**2 * sharpness / ((1 - sharpness).clamp(min=0) + 2 * noise_rate * sharpness + 1e-12)


def sharpness_of(logits_NV: Tensor) -> Tensor:
    r"""$c = \sum_v q_v^2 = \exp(\mathrm{LSE}(2z) - 2\,\mathrm{LSE}(z))$, shape (N,), in [0, 1]."""
    logits = logits_NV if logits_NV.dtype in (torch.float32, torch.float64) else logits_NV.float()
    return (torch.logsumexp(2 * logits, -1) - 2 * torch.logsumexp(logits, -1)).exp().clamp(max=1.0)


class AdaTailr(TokenLoss):
    """State: for each group and for people's tokens the decayed sums of q and c, and their count (float64, on the CPU)."""

    def __init__(self, floor: float, noise_max: float, decay: float, warmup_steps: int) -> None:
        self.floor, self.noise_max, self.decay, self.warmup_steps = floor, noise_max, decay, warmup_steps
        self._sums = torch.zeros(0, 3, dtype=torch.float64)
        self._pending = torch.zeros(0, 3, dtype=torch.float64)
        self._human = torch.zeros(3, dtype=torch.float64)
        self._steps = 0
        self._human_step = 0

    def weight(self, logits_NV: Tensor, target_N: Tensor, nll_N: Tensor, context: TokenContext | None) -> Tensor | None:
        c_N = sharpness_of(logits_NV)
        live = target_N != IGNORED
        group_N = context.group_N if context is not None and context.group_N is not None else torch.zeros_like(target_N)
        self._count(group_N[live], (-nll_N[live]).exp(), c_N[live])
        rates = self.noise_rates()
        if not bool((rates > 0).any()):
            return None
        rate_N = rates.to(c_N)[group_N.clamp(min=0)]
        gamma_N = target_gamma(rate_N, c_N).clamp(min=_GAMMA_FLOOR)
        weight_N = tailr_weight(-nll_N, gamma_N).clamp(min=self.floor)
        # A clean group is plain cross-entropy, to the bit: neither the floor of gamma nor that of log q may touch it.
        return torch.where(rate_N > 0, weight_N, torch.ones_like(weight_N))

    def _count(self, group: Tensor, q: Tensor, c: Tensor) -> None:
        if not len(group):
            return
        size = max(int(group.max()) + 1, len(self._pending))
        self._pending = _grown(self._pending, size)
        values = torch.stack([q, c, torch.ones_like(q)], dim=1).double().cpu()
        self._pending.index_add_(0, group.cpu(), values)

    def noise_rates(self) -> Tensor:
        r"""$\hat\epsilon = \mathrm{clip}(1 - (a_s/c_s)/(a_h/c_h), 0, \epsilon_{max})$ of each group, float64 (G,); 0 during
        warm-up and where nothing was seen."""
        size = max(len(self._sums), len(self._pending))
        rates = torch.zeros(size, dtype=torch.float64)
        a_h, c_h, n_h = self._human.tolist()
        if self._steps < self.warmup_steps or n_h == 0 or a_h <= 0:
            return rates
        a, c, n = self._sums.unbind(1)
        seen = (n > 0) & (c > 0)
        ratio = torch.where(seen, (a / c.clamp(min=1e-300)) / (a_h / c_h), torch.ones_like(a))
        rates[: len(ratio)] = (1 - ratio).clamp(0, self.noise_max)
        return rates

    def observe_human(self, logits_NV: Tensor, target_N: Tensor) -> None:
        live = target_N != IGNORED
        with torch.no_grad():
            logits = logits_NV[live]
            logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
            q = logits.log_softmax(-1).gather(1, target_N[live, None])[:, 0].exp()
            values = torch.stack([q.sum(), sharpness_of(logits).sum(), q.new_tensor(float(len(q)))])
        # The same decay per step as the groups', whatever the distance between looks: then its bias cancels in the ratio.
        self._human = self._human * self.decay ** (self._steps - self._human_step) + values.double().cpu()
        self._human_step = self._steps

    def step(self, all_reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        # Sums and counts are what is added over ranks; ratios are made after.
        pending = all_reduce(self._pending) if all_reduce is not None else self._pending
        self._sums = _grown(self._sums, len(pending)) * self.decay + pending
        self._pending = torch.zeros_like(self._sums)
        self._steps += 1

    def figures(self) -> dict[str, float]:
        return {f"noise_rate/{index}": float(rate) for index, rate in enumerate(self.noise_rates())}

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": self._sums.tolist(),
            "human": self._human.tolist(),
            "steps": self._steps,
            "human_step": self._human_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = torch.tensor(state["sums"], dtype=torch.float64).reshape(-1, 3)
        self._pending = torch.zeros_like(self._sums)
        self._human = torch.tensor(state["human"], dtype=torch.float64)
        self._steps, self._human_step = state["steps"], state["human_step"]


def _grown(table: Tensor, size: int) -> Tensor:
    return torch.cat([table, table.new_zeros(size - len(table), 3)]) if size > len(table) else table


def adatailr(floor: float = 0.0, noise_max: float = 0.9, decay: float = 0.98, warmup_steps: int = 25) -> TokenLoss:
    r"""TaiLr with $\gamma_t = \hat\epsilon_g^2 c_t / (1 - c_t + 2 \hat\epsilon_g c_t)$ per token, nothing to tune (ours, a
    reconstruction of Video DataFlywheel's AdaTaiLr; never its own formula).

    $\hat\epsilon_g$ is the noise rate of the token's group against people's tokens (:meth:`TokenLoss.observe_human`), zero
    for the first ``warmup_steps`` and where nobody vouched for anything: then the loss is cross-entropy to the bit.
    ``floor`` bounds the weight from below, ``noise_max`` the rate from above, ``decay`` is the sums' memory per step.
    Returns ``(N,)``, unreduced. Raises ValueError for values out of range.
    """
    for name, value in (("floor", floor), ("noise_max", noise_max), ("decay", decay)):
        if not 0 <= value <= 1:
            raise ValueError(f"adatailr: need 0 <= {name} <= 1, got {value}")
    if warmup_steps < 0:
        raise ValueError(f"adatailr: need warmup_steps >= 0, got {warmup_steps}")
    return AdaTailr(floor, noise_max, decay, warmup_steps)
