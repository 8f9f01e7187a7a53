"""The order of a round: a state machine in the ledger. Kill it at any moment, run the same command, it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import polars as pl

from flywheel.core.errors import GateRefused, UserError, Waiting
from flywheel.core.progress import say
from flywheel.core.types import CURATE, MEASURE, REPAIR
from flywheel.curation.repair.repairing import check as check_repair
from flywheel.rounds import accelerators
from flywheel.rounds.context import RoundContext
from flywheel.rounds.devices import check_devices
from flywheel.rounds.facts import check_judges
from flywheel.rounds.figures import plugins
from flywheel.rounds.names import check_optimizer
from flywheel.rounds.outlook import impossible
from flywheel.rounds.progress import DONE, current_round, order_of, skipped_stages, stage_began, stage_ended
from flywheel.rounds.publish import publish
from flywheel.rounds.qa import check_questions
from flywheel.rounds.stages import evaluate, from_record, settings_of, stage_of, to_record
from flywheel.rounds.toy import toy_notice
from flywheel.rounds.watch import rounds_without_promotion
from flywheel.store import Workspace

#: Where :meth:`Workspace.meta` keeps rounds whose figures must be computed anew.
_FIGURES_DUE = "figures_due"


def run_round(context: RoundContext, *, until: str | None = None, publishes: bool = True) -> dict[str, Any]:
    """Run or resume the current round, up to and with ``until``; the caller holds the lock.

    Without ``publishes`` its report and MLflow's page of it are left to the caller (:func:`publish`).
    Returns ``{"round", "state": done | waiting | stopped, "code": gate | waiting | "", "waiting", "message"}`` and what
    the state has beside: ``verdict`` and ``alarms``, or ``stage``. ``waiting`` is ``{"round", "have", "wanted"}`` in
    that state. Raises UserError for an unknown stage.
    """
    round = current_round(context.workspace)
    order = order_of(context.workspace, round)
    if until is not None and until not in order:
        raise UserError(f"--until {until}: unknown stage. There are {', '.join(order)}.")
    check_before(context)
    for line in (toy_notice(context.workspace), *impossible(context.workspace)):
        if line:
            say(line)
    if until != "annotate":
        _say_memory(context, round)
    baseline(context, publishes=publishes)
    context.workspace.begin_round(round, order)
    for stage in order[: order.index(until) + 1 if until else None]:
        if context.workspace.stage(round, stage)[0] == DONE:
            continue
        try:
            run_stage(context, round, stage)
        except Waiting as waiting:
            context.workspace.set_stage(round, stage, "waiting", {"message": str(waiting)})
            needs = {"round": waiting.round, "have": waiting.have, "wanted": waiting.wanted}
            return _outcome(round, "waiting", str(waiting), code=waiting.code, stage=stage, waiting=needs)
    if until is not None and until != order[-1]:
        return _outcome(round, "stopped", f"round {round}: {until} finished", stage=until)
    return _finished(context, round, publishes)


def check_before(context: RoundContext) -> None:
    """Find what is wrong with models, loss, figures and stages before a night of annotation. Raises UserError."""
    _ = context.clips
    curation = context.curation_prompts if CURATE in context.config.stages else []
    for prompt in (context.prompt, *context.extra_prompts, *curation):
        context.writer(prompt, 0).check()
    if REPAIR in context.config.stages:
        check_repair(context.workspace)
    check_judges(context)
    check_questions(context)
    context.loss()
    check_optimizer(context.config)
    check_devices(context.config, context.workspace.root)
    plugins()
    for name in context.config.stages:
        settings_of(context, name)
        stage_of(name).check(context)
    if stray := sorted(context.config.plugins.keys() - set(context.config.stages)):
        raise UserError(f"{stray[0]}: unknown section. Name its stage in rounds.stages, or remove it.")


def _say_memory(context: RoundContext, round: int) -> None:
    """Say what training and engine will take of memory, before a night of annotation."""
    from flywheel.rounds.memory_plan import planned

    trains = context.config.pretrain.num_steps > 0 and context.workspace.stage(round, "pretrain")[0] != DONE
    if trains and (plan := planned(context.config, context.workspace.root)) is not None:
        say(f"round {round}: {plan.in_short()}")


def _finished(context: RoundContext, round: int, publishes: bool) -> dict[str, Any]:
    """Publish a round that is done, and say how it ended."""
    result = result_of(context.workspace, round, "gate")
    if publishes:
        publish(context, round)
    message = f"round {round} {result.verdict}: {result.reason}"
    for stage, why in skipped_stages(context.workspace, round).items():
        message += f"; {stage} was skipped ({why})"
    if result.alarms:
        message += "; the watch sees " + ", ".join(alarm["reason"] for alarm in result.alarms)
    in_a_row = rounds_without_promotion(context, round)
    if in_a_row >= context.config.gate.flat_rounds:
        message += (
            f"; {in_a_row} rounds in a row were not promoted: "
            "more anchors, corrections or other clips will do more than another round"
        )
    code = "" if result.verdict == "promoted" else GateRefused.code
    return _outcome(round, DONE, message, code=code, verdict=result.verdict, alarms=list(result.alarms))


def _outcome(
    round: int, state: str, message: str, *, code: str = "", waiting: Mapping[str, int] | None = None, **more: Any
) -> dict[str, Any]:
    return {"round": round, "state": state, "code": code, "waiting": waiting, **more, "message": message}


def baseline(context: RoundContext, *, publishes: bool = True) -> None:
    """Measure the base model's own texts as round 0, against which all rounds stand."""
    if context.workspace.stage(0, "evaluate")[0] != DONE:
        if not len(context.split("test", "anchor")):
            say("round 0: no clip is in the test split or an anchor, so nothing is measured of the base model's texts")
        run_stage(context, 0, "evaluate")
        if publishes:
            publish(context, 0)


def evaluate_again(context: RoundContext) -> dict[int, int]:
    """Ask again about clips that evaluations rejected; returns round -> texts written now.

    Where there are some, the round's figures are computed anew; its verdict stays what it was. Rounds whose weights
    are gone are left out.
    """
    workspace, written = context.workspace, dict[int, int]()
    rejects = workspace.rejected(open_only=True).filter(pl.col("purpose") == MEASURE)
    # Killed after the texts, the figures are still to be computed.
    due: set[int] = set(json.loads(workspace.meta(_FIGURES_DUE) or "[]"))
    for round in sorted(due | set(rejects["round"])):
        has_weights = round == 0 or workspace.model_folder(round).is_dir()
        if not has_weights or workspace.stage(round, "evaluate")[0] != DONE:
            continue
        say(f"round {round}: evaluate, clips that were rejected")
        workspace.set_meta(_FIGURES_DUE, json.dumps(sorted(due | {round})))
        written[round] = evaluate.write(context, round, again=True).written
        if written[round] or round in due:
            started = time.monotonic()
            record = to_record(evaluate.run(context, round)) | accelerators.recorded(context, "evaluate")
            workspace.set_stage(round, "evaluate", DONE, record, time.monotonic() - started)
            publish(context, round)
        due -= {round}
        workspace.set_meta(_FIGURES_DUE, json.dumps(sorted(due)))
    return written


def run_stage(context: RoundContext, round: int, name: str) -> None:
    """Run one stage and record its result, its seconds and whether it ended."""
    workspace, stage = context.workspace, stage_of(name)
    workspace.set_stage(round, name, "running", {})
    stage_began(workspace, round, name)
    say(f"round {round}: {name}")
    started = time.monotonic()
    state, record = "running", {}
    try:
        record = to_record(stage.run(context, round))
        state = DONE
        if not record.get("skipped"):
            record |= accelerators.recorded(context, name)
        else:
            say(f"round {round}: {name} was skipped ({record['skipped']})")
    finally:
        workspace.set_stage(round, name, state, record, time.monotonic() - started)
        stage_ended(workspace)


def result_of(workspace: Workspace, round: int, name: str) -> Any:
    """A stage's recorded result, as the stage's own class; with defaults where nothing is recorded."""
    return from_record(stage_of(name).result, workspace.stage(round, name)[1])
