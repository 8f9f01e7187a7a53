"""Plan, edit the original, look again; what is not clearly better is left as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.curation.repair.plan import Plan, plan
from flywheel.curation.repair.planners import Case, Planner, Tried
from flywheel.curation.repair.quality import QUALITY
from flywheel.curation.repair.vetoes import VETOES, Veto

#: Rewards by name, each in [0, 1], of samples (n,).
Reward = Callable[[NDArray[np.float32]], Mapping[str, float]]
Outcome = Literal["left alone", "repaired", "refused"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an edit is taken, and when the search ends.

    An edit in time must bring synchrony and agreement up by ``margin`` and by more than chance, which is ``falls`` (one
    that has full marks must keep them). One of noise or level must bring quality up by ``quality_margin``, while the
    other two fall by no more than chance. With all at ``enough`` the search ends. After ``cycles`` it ends anyway, and
    after ``no_plans`` in a row that were none.
    """

    margin: float = 0.03
    quality_margin: float = 0.4
    falls: Mapping[str, float] = field(default_factory=dict)
    enough: float = 0.85
    cycles: int = 5
    no_plans: int = 2


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """One turn: the plan, the hash of the sound that it edited, rewards after it, and why it was not taken.

    ``is_plan`` is false where the planner made none that can be done: then nothing was, and there are no rewards.
    """

    plan: Plan
    edited_from: str
    rewards: Mapping[str, float]
    refused: str
    is_plan: bool = True

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "plan": self.plan.to_json(), "rewards": dict(self.rewards)}


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What came of a clip: ``plan`` is the accepted one, without steps where the original stays; the trace of cycles.

    ``outcome``: ``left alone`` where nothing was tried, ``refused`` where nothing that was tried was taken.
    """

    outcome: Outcome
    plan: Plan
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    trace: tuple[Cycle, ...] = field(default=())


def repair(
    samples: NDArray[np.float32],
    rate_hz: int,
    case: Case,
    planner: Planner,
    reward: Reward,
    *,
    vetoes: Mapping[str, Veto] = VETOES,
    limits: Limits = Limits(),
) -> tuple[NDArray[np.float32] | None, Repaired]:
    """The best accepted edit of mono samples (n,), None where the original stays; and how that was found.

    Follows the text of AVAgent (Mo and Song 2024, arXiv 2410.23230), not its listing: each plan edits the original, the
    loop goes on while a reward is low, and an edit counts only where rewards rise (:class:`Limits`). A plan without
    steps ends the search. One that is none (an unknown action, a value out of range, two filters) or was tried before
    is refused, the planner is told so, and may make another.
    """
    samples = samples.copy()
    samples.flags.writeable = False
    origin, before = _digest(samples), dict(reward(samples))
    best: tuple[float, NDArray[np.float32], Plan, Mapping[str, float]] | None = None
    cycles: list[Cycle] = []
    tried: list[Tried] = []
    reason, in_vain = "all rewards are high", 0
    if not _is_enough(before, limits):
        for _ in range(limits.cycles):
            try:
                made = _next_plan(planner, case, tried)
            except UserError as error:
                reason, in_vain = str(error), in_vain + 1
                cycles.append(Cycle(plan=Plan(), edited_from=origin, rewards={}, refused=reason, is_plan=False))
                tried.append(Tried(plan=Plan(), rewards={}, refused=reason, is_plan=False))
                if in_vain == limits.no_plans:
                    break
                continue
            if not made:
                reason = made.reason
                break
            in_vain, edited = 0, made.apply(samples, rate_hz)
            after = dict(reward(edited))
            refused = refusal(made, before, after, limits) or vetoed(samples, edited, rate_hz, vetoes)
            cycles.append(Cycle(plan=made, edited_from=origin, rewards=after, refused=refused))
            tried.append(Tried(plan=made, rewards=after, refused=refused))
            total = sum(after.values())
            if not refused and (best is None or total > best[0]):
                best = (total, edited, made, after)
            reason = refused or made.reason
            if not refused and _is_enough(after, limits):
                break
    if best is None:
        outcome: Outcome = "refused" if any(cycle.is_plan for cycle in cycles) else "left alone"
        stays = Repaired(outcome=outcome, plan=Plan(), reason=reason, before=before, after=before, trace=tuple(cycles))
        return None, stays
    _, sound, taken, rewarded = best
    mended = Repaired(
        outcome="repaired", plan=taken, reason=taken.reason, before=before, after=rewarded, trace=tuple(cycles)
    )
    return sound, mended


def _next_plan(planner: Planner, case: Case, tried: Sequence[Tried]) -> Plan:
    """What the planner makes. Raises UserError where it is no plan, or one that was tried before."""
    made = planner(case, tuple(tried))
    # Whoever wrote the planner, and however it made the plan: what is done is what a plan may hold.
    made = plan(made.steps, made.reason)
    if made and made.key() in {attempt.plan.key() for attempt in tried}:
        raise UserError(f"planned again: {made.reason}")
    return made


def _is_enough(rewards: Mapping[str, float], limits: Limits) -> bool:
    return all(value >= limits.enough for value in rewards.values())


def refusal(made: Plan, before: Mapping[str, float], after: Mapping[str, float], limits: Limits) -> str:
    """Why the rewards before and after an edit do not speak for it; empty where they do.

    Where quality is not among them, the others decide on all edits.
    """
    by_quality, by_picture = made.by_quality and QUALITY in after, made.by_picture or QUALITY not in after
    risen = False
    for name, value in after.items():
        chance = limits.falls.get(name, 0.0)
        need = limits.quality_margin if name == QUALITY else max(limits.margin, chance)
        shown = f"{name} {before[name]:.2f} to {value:.2f}"
        risen |= name != QUALITY and value >= before[name] + need
        if name == QUALITY:
            if by_quality and value < before[name] + need:
                return f"{shown}: need a rise of {need:.2g}"
            if value < before[name] - need:
                return f"{shown}: may fall by {need:.2g}"
        elif by_picture and value < min(1.0, before[name] + need):
            return f"{shown}: need a rise of {need:.2g}"
        elif value < before[name] - chance:
            return f"{shown}: may fall by {chance:.2g}"
    return "" if risen or not by_picture else "synchrony and agreement: neither rises, as both are high"


def vetoed(original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int, vetoes: Mapping[str, Veto]) -> str:
    """What the first veto says that speaks against an edit of mono samples (n,); empty where none does."""
    return next((why for veto in vetoes.values() if (why := veto(original, edited, rate_hz))), "")


def _digest(samples: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()[:16]
