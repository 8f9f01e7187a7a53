"""Train clips are kept or dropped by what their sounds and pictures tell of each other."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.curation.curating import Curated, curate
from flywheel.curation.evidence import measure_all
from flywheel.curation.judged import figures_of
from flywheel.curation.speech import measure_speech, network_of
from flywheel.rounds.context import RoundContext
from flywheel.rounds.judging import judge_in_doubt
from flywheel.rounds.stages._stage import Stage

#: Costs that are shown by clip; an older round has the first alone.
_COSTS = tuple(f"{what}_per_clip{kept}" for what in ("seconds", "tokens", "money") for kept in ("", "_kept"))


def run(context: RoundContext, round: int) -> Curated:
    """Measure what was not measured yet, have judged what is in doubt, and decide on all clips that the round uses."""
    network, clips = network_of(context.workspace), context.to_curate()
    measured = measure_all(context.workspace, clips, round)
    measure_speech(context.workspace, clips.of("train", "test", "anchor").by_id(), network)
    judged = judge_in_doubt(context, round)
    return curate(context.workspace, clips, context.config.curate, measured, judged=judged)


def figures(result: Curated) -> Mapping[str, float]:
    """Counts, hours, costs, and how good the probability is; nothing for a round without the stage."""
    if not result.run:
        return {}
    values: dict[str, float] = {
        "kept": result.kept,
        "dropped": result.dropped,
        "unscored": result.unscored,
        "hours": result.hours,
        "would_drop": sum(result.would_drop.values()),
    }
    values |= {name: result.cost[name] for name in _COSTS if name in result.cost}
    values |= figures_of(result.judged)
    if result.calibration:
        share = result.calibration["share_matched"]
        values |= {"auc": result.calibration["auc"], "share_matched": share["value"]}
        values |= {"share_matched_low": share["low"], "share_matched_high": share["high"]}
    for name in ("lost", "kept_bad"):
        if name in result.threshold:
            price = result.threshold[name]
            values |= {name: price["value"], f"{name}_low": price["low"], f"{name}_high": price["high"]}
    return {f"curate/{name}": float(value) for name, value in values.items()}


STAGE = Stage(run=run, result=Curated, figures=figures)
