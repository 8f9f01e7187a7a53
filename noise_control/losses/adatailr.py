r"""AdaTaiLr: TaiLr whose gamma adapts itself.

The paper's own formula (Video DataFlywheel, arXiv 2409.19532) is not public. What adapts here is ours, a documented
reconstruction; each rule in :mod:`noise_control.rules` is a whole loss, so that another can replace it.
"""

from __future__ import annotations

from typing import Any

from noise_control import rules
from noise_control.interface import TokenLoss, check_shares


def adatailr(rule: str = "mixture", floor: float = 0.0, **arguments: Any) -> TokenLoss:
    r"""$\omega_t = q_t / (\gamma_t + (1-\gamma_t) q_t)$, with a gamma per token and a trust per text that nobody sets.

    Ours, a reconstruction of Video DataFlywheel's AdaTaiLr; never its own formula.

    ``rule`` names what adapts: ``mixture`` (the default) or ``sharpness`` (the first reconstruction). ``arguments`` are
    the rule's. ``floor`` bounds weights from below.

    Rules measure noise against people's texts (:meth:`TokenLoss.observe_human`). Before they have seen any, and where
    they find none, the loss is cross-entropy to the bit.

    Returns ``(N,)``, unreduced. Raises ValueError for values out of range, UserError for an unknown rule or argument.
    """
    check_shares("adatailr", floor=floor)
    loss = rules.build(rule, **arguments)
    loss.floor = floor
    return loss
