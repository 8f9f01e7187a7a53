"""Clips' sounds are edited where that brings sound and picture together, and mostly left alone."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.curation.repair.repairing import repair_clips
from flywheel.curation.repair.summary import RepairSummary, summary
from flywheel.rounds.context import RoundContext
from flywheel.rounds.stages._stage import Stage


def run(context: RoundContext, round: int) -> RepairSummary:
    """Look at the sounds that were not looked at yet; whoever reads sound afterwards reads those that stand."""
    index = context.to_curate()
    done = repair_clips(context.workspace, index, round=round)
    found = summary(context.workspace, done, index)
    context.sounds(anew=True)
    return found


def figures(result: RepairSummary) -> Mapping[str, float]:
    """Counts, edits by action, mean rewards of repaired clips before and after, and seconds, what a model that plans
    cost, and how often people prefer edited sounds; nothing without clips."""
    if not result.clips:
        return {}
    values: dict[str, float] = {
        "left_alone_share": result.left_alone / result.clips,
        "repaired": result.repaired,
        "refused": result.refused,
        "undone": result.undone,
        "seconds_per_clip": result.seconds / result.clips,
    }
    if result.costs:
        values |= {"no_plans": result.no_plans, **{name: result.costs[name] for name in result.costs}}
    if result.people:
        rate = result.people["edited_better"]
        values |= {f"preferred{end}": rate[name] for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))}
    values |= {f"action/{name}": count for name, count in result.actions.items()}
    for name, value in result.before.items():
        values |= {f"before/{name}": value, f"after/{name}": result.after[name]}
    return {f"repair/{name}": float(value) for name, value in values.items()}


STAGE = Stage(run=run, result=RepairSummary, figures=figures)
