"""The order of a round: a state machine in the ledger. Kill it at any moment, run the same command, it goes on."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.types import ROUND_STAGES, Stage
from flywheel.rounds import stages
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import plugins
from flywheel.rounds.publish import publish
from flywheel.rounds.watch import rounds_without_promotion

DONE = "done"


def current_round(context: RoundContext) -> int:
    """The round that is under way, or the next one where the last is done."""
    rounds = [r for r in context.workspace.rounds() if r > 0]
    if not rounds:
        return 1
    last = rounds[-1]
    return last + 1 if context.workspace.stage(last, "gate")[0] == DONE else last


def current_stage(context: RoundContext, round: int) -> Stage:
    return next((s for s in ROUND_STAGES if context.workspace.stage(round, s)[0] != DONE), "gate")


def run_round(context: RoundContext, *, until: Stage | None = None) -> dict[str, Any]:
    """Run or resume the current round, up to and with ``until``; the caller holds the lock.

    Returns ``{"round", "state": done | waiting | stopped, "verdict", "message"}``.
    Raises UserError for an unknown stage.
    """
    if until is not None and until not in ROUND_STAGES:
        raise UserError(f"--until {until}: unknown stage. There are {', '.join(ROUND_STAGES)}.")
    # What is wrong with either shall be said before a night of annotation.
    context.loss()
    plugins()
    baseline(context)
    round = current_round(context)
    last = ROUND_STAGES.index(until) if until else len(ROUND_STAGES) - 1
    for stage in ROUND_STAGES[: last + 1]:
        if context.workspace.stage(round, stage)[0] == DONE:
            continue
        try:
            _run_stage(context, round, stage)
        except stages.Waiting as waiting:
            context.workspace.set_stage(round, stage, "waiting", {"message": str(waiting)})
            return {"round": round, "state": "waiting", "stage": stage, "message": str(waiting)}
    if until is not None and until != "gate":
        return {"round": round, "state": "stopped", "stage": until, "message": f"round {round} is done up to {until}"}
    result = context.workspace.stage(round, "gate")[1]
    publish(context, round)
    message = f"round {round} {result['verdict']}: {result['reason']}"
    if alarms := result.get("alarms"):
        message += "; the watch sees " + ", ".join(a["reason"] for a in alarms)
    if (count := rounds_without_promotion(context, round)) >= context.config.gate.flat_rounds:
        message += (
            f"; {count} rounds in a row were not promoted: more anchors, corrections or other clips will do more "
            "than another round"
        )
    return {
        "round": round,
        "state": DONE,
        "verdict": result["verdict"],
        "alarms": result.get("alarms", []),
        "message": message,
    }


def baseline(context: RoundContext) -> None:
    """Round 0: the figures of the base model's own texts, against which all rounds stand."""
    if context.workspace.stage(0, "evaluate")[0] != DONE:
        _run_stage(context, 0, "evaluate")
        publish(context, 0)


def _run_stage(context: RoundContext, round: int, stage: Stage) -> None:
    context.workspace.set_stage(round, stage, "running", {})
    # For the schedule's budget: a stage's seconds are on record only when it ends.
    context.workspace.set_meta(stages.STAGE_BEGAN, json.dumps([round, stage, datetime.now(UTC).isoformat()]))
    say(f"round {round}: {stage}")
    started = time.monotonic()
    state, result = "running", {}
    try:
        result = stages.STAGES[stage](context, round)
        state = DONE
    finally:
        context.workspace.set_stage(round, stage, state, result, time.monotonic() - started)
        context.workspace.set_meta(stages.STAGE_BEGAN, "[]")
