"""The order of a round: a state machine in the ledger. Kill it at any moment, run the same command, it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.core.errors import GateRefused, UserError, Waiting
from flywheel.core.progress import say
from flywheel.core.types import MEASURE, ROUND_STAGES, RoundReport, Stage
from flywheel.rounds import stages
from flywheel.rounds.context import RoundContext
from flywheel.rounds.plots import write_plots
from flywheel.rounds.progress import DONE, current_round, stage_began, stage_ended
from flywheel.rounds.report import write_report
from flywheel.rounds.watch import flat_rounds


def run_round(context: RoundContext, *, until: Stage | None = None) -> dict[str, Any]:
    """Run or resume the current round, up to and with ``until``; the caller holds the lock.

    Returns ``{"round", "state": done | waiting | stopped, "code": gate | waiting | "", "waiting", "message"}`` and what
    the state has beside: ``verdict`` and ``alarms``, or ``stage``. ``waiting`` is ``{"round", "have", "wanted"}`` in that
    state. Raises UserError for an unknown stage.
    """
    if until is not None and until not in ROUND_STAGES:
        raise UserError(f"--until {until}: unknown stage. There are {', '.join(ROUND_STAGES)}.")
    context.loss()  # What is wrong with it shall be said before a night of annotation.
    baseline(context)
    round = current_round(context.workspace)
    last = ROUND_STAGES.index(until) if until else len(ROUND_STAGES) - 1
    for stage in ROUND_STAGES[: last + 1]:
        if context.workspace.stage(round, stage)[0] == DONE:
            continue
        try:
            _run_stage(context, round, stage)
        except Waiting as waiting:
            context.workspace.set_stage(round, stage, "waiting", {"message": str(waiting)})
            needs = {"round": waiting.round, "have": waiting.have, "wanted": waiting.wanted}
            return _outcome(round, "waiting", str(waiting), code=waiting.code, stage=stage, waiting=needs)
    if until is not None and until != "gate":
        return _outcome(round, "stopped", f"round {round} is done up to {until}", stage=until)
    result = context.workspace.stage(round, "gate")[1]
    publish(context, round)
    message = f"round {round} {result['verdict']}: {result['reason']}"
    if alarms := result.get("alarms"):
        message += "; the watch sees " + ", ".join(a["reason"] for a in alarms)
    if (flat := flat_rounds(context, round)) >= context.config.gate.flat_rounds:
        message += f"; {flat} rounds in a row were not promoted: more anchors, corrections or other clips will do more than another round"
    code = "" if result["verdict"] == "promoted" else GateRefused.code
    return _outcome(round, DONE, message, code=code, verdict=result["verdict"], alarms=result.get("alarms", []))


def _outcome(
    round: int, state: str, message: str, *, code: str = "", waiting: Mapping[str, int] | None = None, **more: Any
) -> dict[str, Any]:
    return {"round": round, "state": state, "code": code, "waiting": waiting, **more, "message": message}


def baseline(context: RoundContext) -> None:
    """Round 0: the figures of the base model's own texts, against which all rounds stand."""
    if context.workspace.stage(0, "evaluate")[0] != DONE:
        _run_stage(context, 0, "evaluate")
        publish(context, 0)


def _run_stage(context: RoundContext, round: int, stage: Stage) -> None:
    context.workspace.set_stage(round, stage, "running", {})
    stage_began(context.workspace, round, stage)
    say(f"round {round}: {stage}")
    started = time.monotonic()
    state, result = "running", {}
    try:
        result = stages.STAGES[stage](context, round)
        state = DONE
    finally:
        context.workspace.set_stage(round, stage, state, result, time.monotonic() - started)
        stage_ended(context.workspace)


def figures(context: RoundContext, round: int) -> dict[str, Any]:
    """A round's figures as they stand on record, a :class:`RoundReport` as plain values."""
    workspace = context.workspace
    measured = workspace.stage(round, "evaluate")[1]
    results = {stage: workspace.stage(round, stage)[1] for stage in ROUND_STAGES if stage != "evaluate"}
    report = RoundReport(
        round=round,
        num_corrections=stages.num_corrections(context, round) if round else 0,
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
    tracker.parameters(round, {"model": context.config.corpus.model, "loss": context.config.loss.name,
                               "prompt": context.prompt.digest, "learned_from_round": said["details"].get("pretrain", {}).get("learned_from_round")})  # fmt: skip
    gate = said["details"].get("gate", {})
    tags = {"verdict": gate.get("verdict", "base" if round == 0 else "none"),
            "mlflow.note.content": gate.get("reason", "The base model's own texts." if round == 0 else "")}  # fmt: skip
    if "against" in gate:
        tags["tested_against"] = f"round {gate['against']}" if gate["against"] else "base"
    tracker.tags(round, tags)
    for stage in ROUND_STAGES:
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
    clips = sorted(context.split("test"), key=lambda c: c.id)[:24]
    names = [Path(c.uri).name for c in clips]
    out: dict[str, list[Any]] = {
        "clip": [f"{n} {c.start_s:.1f} s" if names.count(n) > 1 else n for n, c in zip(names, clips, strict=True)]
    }
    out |= {"text": [], "id": [c.id for c in clips]}
    for r in range(round + 1):
        said = dict(context.workspace.annotations(round=r, purpose=MEASURE).select("clip_id", "text").iter_rows())
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
