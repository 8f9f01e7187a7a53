"""People's blind choices between two rounds' texts, as the gate and comparisons take them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import scipy

from flywheel.metrics import mean_estimate
from flywheel.metrics.preference import WinRate, choices_needed
from flywheel.rounds.context import RoundContext
from flywheel.rounds.progress import current_round
from flywheel.store import Workspace
from human_refine.pairs import Choice, choices_between, gold_choices
from human_refine.people import excluded


def first_choices(context: RoundContext, older: int, newer: int) -> list[Choice]:
    """The first standing choice on each anchor video between two rounds' texts: later ones tell of the same video.

    Videos whose source was removed are left out.
    """
    first: dict[str, Choice] = {}
    gone = context.workspace.removed_videos(current_round(context.workspace))
    for choice in choices_between(context.workspace, older, newer):
        video = context.clips[choice.clip_id].content_hash
        if video not in gone:
            first.setdefault(video, choice)
    return list(first.values())


def pair_suspects(workspace: Workspace, least: float) -> dict[str, str]:
    """Refiner -> why that one's choices are not to be trusted: surely (95 %, exact) fewer hidden pairs right than
    ``least``. Who is excluded is not asked of."""
    found = {}
    for refiner, score in gold_choices(workspace).items():
        high = scipy.stats.binomtest(score.right, score.seen).proportion_ci(method="exact").high
        if high < least and refiner not in excluded(workspace):
            found[refiner] = (
                f"had {score.right} of {score.seen} hidden pairs right, at most {high:.0%} by the 95 % interval, "
                f"{least:.0%} are asked for (gate.min_gold_accuracy; "
                f"'flywheel exclude {refiner}' leaves that one's words out)"
            )
    return found


def preferred(context: RoundContext, a: int, b: int) -> dict[str, Any]:
    """``preference``: how often people chose ``b``'s texts over ``a``'s, as evidence; nothing where nobody chose."""
    choices = first_choices(context, a, b)
    if not choices:
        return {}
    rate, gate = WinRate(c.outcome for c in choices), context.config.gate
    plan = choices_needed(gate.win_rate, gate.alpha, gate.power)
    return {
        "preference": {
            "win_rate": asdict(rate.interval(gate.alpha)),
            "e_value": rate.e_value,
            "e_value_worse": rate.e_value_worse,
            "needed": plan.needed,
            "refiners": len({c.refiner for c in choices}),
            "seconds_per_choice": mean_estimate([c.seconds for c in choices]).value,
            "ties": sum(c.outcome == 0.5 for c in choices) / len(choices),
        }
    }
