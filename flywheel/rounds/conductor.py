"""The order of a round: a state machine in the ledger. Kill it at any moment, run the same command, it goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.types import MEASURE, RoundReport
from flywheel.rounds.context import RoundContext
from flywheel.rounds.plots import write_plots
from flywheel.rounds.report import write_report
from flywheel.rounds.stages import from_record, settings_of, stage_of, to_record
from flywheel.rounds.stages.review import Waiting, num_corrections
from flywheel.rounds.watch import flat_rounds
from flywheel.store import Workspace

DONE = "done"
#: Where the running stage's round, name and beginning stand (meta).
STAGE_BEGAN = "stage_began"


def current_round(context: RoundContext) -> int:
    """The round that is under way, or the next one where the last is done."""
    rounds = [r for r in context.workspace.rounds() if r > 0]
    if not rounds:
        return 1
    last = rounds[-1]
    return last + 1 if context.workspace.stage(last, "gate")[0] == DONE else last


def order_of(context: RoundContext, round: int) -> tuple[str, ...]:
    """The stages of a round: as recorded when it began, else as the configuration has them now."""
    return context.workspace.order(round) or context.config.rounds.stages


def current_stage(context: RoundContext, round: int) -> str:
    """The first stage of a round that is not done."""
    order = order_of(context, round)
    return next((s for s in order if context.workspace.stage(round, s)[0] != DONE), order[-1])


def run_round(context: RoundContext, *, until: str | None = None) -> dict[str, Any]:
    """Run or resume the current round, up to and with ``until``; the caller holds the lock.

    Returns ``{"round", "state": done | waiting | stopped, "verdict", "message"}``. Raises UserError for an unknown stage.
    """
    _check_before(context)
    baseline(context)
    round = current_round(context)
    order = order_of(context, round)
    if until is not None and until not in order:
        raise UserError(f"--until {until}: unknown stage. There are {', '.join(order)}.")
    context.workspace.begin_round(round, order)
    for stage in order[: order.index(until) + 1 if until else None]:
        if context.workspace.stage(round, stage)[0] == DONE:
            continue
        try:
            run_stage(context, round, stage)
        except Waiting as waiting:
            context.workspace.set_stage(round, stage, "waiting", {"message": str(waiting)})
            return {"round": round, "state": "waiting", "stage": stage, "message": str(waiting)}
    if until is not None and until != order[-1]:
        return {"round": round, "state": "stopped", "stage": until, "message": f"round {round} is done up to {until}"}
    return _outcome(context, round)


def _check_before(context: RoundContext) -> None:
    """Find what is wrong with the loss or a stage before a night of annotation. Raises UserError."""
    context.loss()
    for name in context.config.rounds.stages:
        settings_of(context, name)
    if stray := sorted(context.config.plugins.keys() - set(context.config.rounds.stages)):
        raise UserError(f"{stray[0]}: unknown section. Name its stage in rounds.stages, or remove it.")


def _outcome(context: RoundContext, round: int) -> dict[str, Any]:
    """Publish a round that is done, and say how it ended."""
    result = result_of(context.workspace, round, "gate")
    publish(context, round)
    message = f"round {round} {result.verdict}: {result.reason}"
    if result.alarms:
        message += "; the watch sees " + ", ".join(alarm["reason"] for alarm in result.alarms)
    in_a_row = flat_rounds(context, round)
    if in_a_row >= context.config.gate.flat_rounds:
        message += (
            f"; {in_a_row} rounds in a row were not promoted: "
            "more anchors, corrections or other clips will do more than another round"
        )
    return {
        "round": round,
        "state": DONE,
        "verdict": result.verdict,
        "alarms": list(result.alarms),
        "message": message,
    }


def baseline(context: RoundContext) -> None:
    """Measure the base model's own texts as round 0, against which all rounds stand."""
    if context.workspace.stage(0, "evaluate")[0] != DONE:
        run_stage(context, 0, "evaluate")
        publish(context, 0)


def run_stage(context: RoundContext, round: int, name: str) -> None:
    """Run one stage and record its result, its seconds and whether it ended."""
    workspace, stage = context.workspace, stage_of(name)
    workspace.set_stage(round, name, "running", {})
    # For the schedule's budget: a stage's seconds are on record only when it ends.
    workspace.set_meta(STAGE_BEGAN, json.dumps([round, name, datetime.now(UTC).isoformat()]))
    say(f"round {round}: {name}")
    started = time.monotonic()
    state, record = "running", {}
    try:
        record = to_record(stage.run(context, round))
        state = DONE
    finally:
        workspace.set_stage(round, name, state, record, time.monotonic() - started)
        workspace.set_meta(STAGE_BEGAN, "[]")


def result_of(workspace: Workspace, round: int, name: str) -> Any:
    """A stage's recorded result, as the stage's own class; with defaults where nothing is recorded."""
    return from_record(stage_of(name).result, workspace.stage(round, name)[1])


def figures(context: RoundContext, round: int) -> dict[str, Any]:
    """A round's figures as they stand on record, a :class:`RoundReport` as plain values."""
    workspace = context.workspace
    measured = workspace.stage(round, "evaluate")[1]
    results = {stage: workspace.stage(round, stage)[1] for stage in order_of(context, round) if stage != "evaluate"}
    report = RoundReport(
        round=round,
        num_corrections=num_corrections(context, round) if round else 0,
        quantity=measured.get("quantity", {}),
        diversity=measured.get("diversity", {}),
        quality=measured.get("quality", {}),
        oracle=measured.get("oracle", {}),
        watch=measured.get("watch", {}),
        stages_s=workspace.stages_s(round),
        details={stage: result for stage, result in results.items() if result},
    )
    return asdict(report)


def publish(context: RoundContext, round: int) -> None:
    """Write the round's report and hand its figures to the tracker; both can be done again."""
    said = figures(context, round)
    rounds = [figures(context, r) for r in range(round + 1)]
    folder = write_report(context, rounds, round)
    tracker = context.tracker
    tracker.metrics(round, flat(said))
    tracker.parameters(round, {"model": context.config.main.folder, "loss": context.config.loss.name,
                               "prompt": context.prompt.digest, "learned_from_round": said["details"].get("pretrain", {}).get("learned_from_round")})  # fmt: skip
    gate = said["details"].get("gate", {})
    tags = {"verdict": gate.get("verdict", "base" if round == 0 else "none"),
            "mlflow.note.content": gate.get("reason", "The base model's own texts." if round == 0 else "")}  # fmt: skip
    if "against" in gate:
        tags["tested_against"] = f"round {gate['against']}" if gate["against"] else "base"
    tracker.tags(round, tags)
    for stage in order_of(context, round):
        result = context.workspace.stage(round, stage)[1]
        if result:
            tracker.stage(
                round, stage, {"seconds": said["stages_s"].get(stage, 0.0), **_numbers(result)}, _words(result)
            )
    tracker.dataset(round)
    tracker.table(round, _gallery(context, round), "samples.json")
    tracker.plot(write_plots(rounds, folder / "rounds.png"))
    tracker.view([name for past in rounds for name in flat(past)])
    tracker.artifacts(round, [folder / "report.html", folder / "report.json", folder / "config.yaml"])


def _gallery(context: RoundContext, round: int) -> dict[str, list[Any]]:
    """The same test clips in every round. MLflow's comparison sets the second column of several runs side by side, by the first; the columns after it are the rounds before."""
    clips = list(context.split("test").by_id()[:24])
    names = [Path(c.uri).name for c in clips]
    out: dict[str, list[Any]] = {
        "clip": [f"{n} {c.start_s:.1f} s" if names.count(n) > 1 else n for n, c in zip(names, clips, strict=True)]
    }
    out |= {"text": [], "id": [c.id for c in clips]}
    for r in range(round + 1):
        said = dict(context.workspace.texts(r, MEASURE, "clip_id", "text").iter_rows())
        out["base" if r == 0 else f"M{r}"] = out["text"] = [said.get(c.id, "") for c in clips]
    return out


def _numbers(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The plain numbers of a stage's result, nested ones by their path."""
    out: dict[str, float] = {}
    for name, value in result.items():
        if isinstance(value, bool | int | float) and value == value:
            out[f"{prefix}{name}"] = float(value)
        elif isinstance(value, Mapping):
            out |= _numbers(value, f"{prefix}{name}/")
    return out


def _words(result: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in result.items() if isinstance(value, str)}


#: Figures of what people did that MLflow gets.
_REVIEW = ("alpha", "boundary_iou", "overlap", "edit_rate", "seconds_each", "gold_accuracy")


def flat(said: Mapping[str, Any]) -> dict[str, float]:
    """Nested figures as ``quality/token_f1`` and the like, with ``_low`` and ``_high`` for intervals; nan left out."""
    out: dict[str, float] = {"num_corrections": float(said["num_corrections"])}
    for group in ("quantity", "diversity", "quality", "oracle", "watch"):
        for name, value in said.get(group, {}).items():
            parts = (
                {"": value["value"], "_low": value["low"], "_high": value["high"]}
                if isinstance(value, Mapping)
                else {"": value}
            )
            out.update({f"{group}/{name}{end}": float(v) for end, v in parts.items() if v == v})
    for stage, seconds in said["stages_s"].items():
        out[f"seconds/{stage}"] = float(seconds)
    annotated = said["details"].get("annotate", {})
    out.update({f"annotate/{name}": float(value) for name, value in annotated.get("costs", {}).items()})
    for kind, more in annotated.get("also", {}).items():
        out.update({f"annotate/{kind}/{name}": float(value) for name, value in more["costs"].items()})
    for name, value in annotated.get("corpus", {}).items():
        for end, part in value.items() if isinstance(value, Mapping) else (("value", value),):
            if end in ("value", "low", "high") and part == part:
                out[f"corpus/{name}" + ("" if end == "value" else f"_{end}")] = float(part)
    if "busy_share" in annotated:
        out["annotate/busy_share"] = float(annotated["busy_share"])
    out.update({f"adapter_proof/{name}": float(value) for name, value in (annotated.get("proof") or {}).items()})
    reviewed = said["details"].get("review", {})
    out.update({f"review/{name}": float(reviewed[name]) for name in _REVIEW if name in reviewed})
    pretrained = said["details"].get("pretrain", {})
    out.update({name: float(value) for name, value in pretrained.items() if name.startswith("noise_rate/")})
    return out


def rewrite_reports(context: RoundContext) -> None:
    """Write the reports that there are again, from what the records hold now."""
    # What the context has read may be gone.
    fresh = RoundContext(context.workspace, context.tracker)
    for round in context.workspace.rounds():
        folder = context.workspace.report_folder(round)
        if not folder.exists():
            continue
        try:
            write_report(fresh, [figures(fresh, r) for r in range(round + 1)], round)
        except UserError as error:
            say(f"report: {error}")
            # No clip is left: a page of none.
            shutil.rmtree(folder)
