"""Publishing a round: its report on disk, its figures, texts and model in MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.types import MEASURE, RoundReport
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import charts, flatten_report
from flywheel.rounds.outlook import outlook_of
from flywheel.rounds.plots import write_plots
from flywheel.rounds.progress import comparable_rounds, order_of
from flywheel.rounds.recorded import recorded
from flywheel.rounds.report import texts_of, write_report
from flywheel.rounds.stages import from_record, stage_of
from flywheel.rounds.stages.review import corrections_by_round
from flywheel.rounds.verdict import headline, verdict_word
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker

#: Test clips whose texts MLflow shows side by side.
_NUM_SAMPLES = 24
#: What of a round's report MLflow keeps; what is not there is left out.
_FILES = ("report.html", "report.json", "config.yaml", "curation", "facts.jsonl")
#: Its table of test clips' texts.
_TABLE = "samples.json"


def report_of(context: RoundContext, round: int) -> RoundReport:
    """Return a round's figures as they stand on record."""
    return _reports(context.workspace)(round)


def _reports(workspace: Workspace) -> Callable[[int], RoundReport]:
    """Gives the figures of a round; corrections, of all rounds, and each round's records are read once."""
    counts = corrections_by_round(workspace)
    return cache(lambda round: recorded(workspace, round, counts[round] if round else 0))


def flatten(report: RoundReport) -> dict[str, float]:
    """A round's figures as MLflow has them, those of its stages included."""
    figures = flatten_report(report)
    for name, record in report.details.items():
        try:
            stage = stage_of(name)
        except UserError:
            # A stage of a package that is not installed any more: its numbers are in its own run.
            continue
        figures |= stage.figures(from_record(stage.result, record))
    return figures


def reports_until(context: RoundContext, round: int) -> list[RoundReport]:
    """Return the reports of the base (0) and of all rounds to this one that were measured on one split."""
    return [*map(_reports(context.workspace), comparable_rounds(context.workspace, round))]


def publish(context: RoundContext, round: int, *, newest: bool = True) -> None:
    """Write the round's report and hand its figures to the tracker; both can be done again.

    Of a round that is not the ``newest`` of those that are published, what the newest one's replaces is left out: the
    picture of all rounds, and MLflow's page of them.
    """
    reports = reports_until(context, round)
    report, tracker = reports[-1], context.tracker
    folder = write_report(context, reports)
    tracker.metrics(round, flatten(report))
    tracker.parameters(round, _parameters(context, report))
    tracker.tags(round, _tags(context, report))
    for stage in order_of(context.workspace, round):
        result = context.workspace.stage(round, stage)[1]
        if result:
            seconds = {"seconds": report.stages_s.get(stage, 0.0)}
            tracker.stage(round, stage, {**seconds, **_numbers(result)}, _words(result))
    tracker.dataset(round)
    tracker.table(round, _samples(context, round), _TABLE)
    if newest:
        tracker.plot(write_plots(reports, folder / "rounds.png"))
        show_rounds(tracker, reports)
    tracker.artifacts(round, [folder / name for name in _FILES])


def rewrite_reports(context: RoundContext) -> None:
    """Write the reports that there are again, in MLflow too, from what the records hold now."""
    # What the context has read may be gone.
    fresh = RoundContext(context.workspace, context.tracker)
    report = _reports(fresh.workspace)
    for round in context.workspace.rounds():
        folder = context.workspace.report_folder(round)
        if not folder.exists():
            continue
        try:
            write_report(fresh, [*map(report, comparable_rounds(fresh.workspace, round))])
        except UserError as error:
            # No clip is left, and so nothing to report.
            say(f"report: {error}")
            fresh.tracker.replace(round, [*_FILES, _TABLE], [], {})
            shutil.rmtree(folder)
            continue
        files = [folder / name for name in _FILES]
        fresh.tracker.replace(round, [*_FILES, _TABLE], files, {_TABLE: _samples(fresh, round)})


def _parameters(context: RoundContext, report: RoundReport) -> dict[str, Any]:
    return {
        "model": context.config.main.folder,
        "loss": context.config.loss.name,
        "prompt": context.prompt.digest,
        "learned_from_round": report.details.get("pretrain", {}).get("learned_from_round"),
    }


def _tags(context: RoundContext, report: RoundReport) -> dict[str, str]:
    gate = report.details.get("gate", {})
    base = report.round == 0
    tags = {
        "verdict": gate.get("verdict", "base" if base else "none"),
        "mlflow.note.content": _note(context, report.round) or ("The base model's own texts." if base else ""),
    }
    if gate.get("verdict"):
        # The list beside MLflow's charts shows names alone.
        tags["mlflow.runName"] = f"round {report.round:03d} {verdict_word(gate['verdict'])}"
    if "against" in gate:
        tags["tested_against"] = f"round {gate['against']}" if gate["against"] else "base"
    return tags


def _note(context: RoundContext, round: int) -> str:
    """What a round came to, what is needed and what comes next, as Markdown; empty where it came to no gate."""
    outlook = outlook_of(context.workspace)
    of_round = [outcome for outcome in outlook.rounds if outcome.round == round]
    if not of_round:
        return ""
    commands = [f"    {line}" for line in outlook.next]
    return "\n\n".join([str(of_round[0]), str(outlook.gate), *outlook.impossible, "Next:", "\n".join(commands)])


def show_rounds(tracker: Tracker, reports: list[RoundReport]) -> None:
    """Set up MLflow's page of these rounds: the figures charted with their intervals, the last verdicts on top."""
    present = {name for report in reports for name in flatten(report)}
    sections = charts(present)
    tracker.view(
        {section: [figure.name for figure in group] for section, group in sections.items()},
        headline=headline(reports),
        intervals=[f.name for group in sections.values() for f in group if f"{f.name}_low" in present],
    )


def _samples(context: RoundContext, round: int) -> dict[str, list[Any]]:
    """Return the same test clips in every round, with each round's texts of them.

    MLflow's comparison sets the second column of several runs side by side, by the first; the columns after it are the
    rounds before.
    """
    clips = list(context.split("test").by_id()[:_NUM_SAMPLES])
    names = [Path(c.uri).name for c in clips]
    out: dict[str, list[Any]] = {
        "clip": [f"{n} {c.start_s:.1f} s" if names.count(n) > 1 else n for n, c in zip(names, clips, strict=True)]
    }
    out |= {"text": [], "id": [c.id for c in clips]}
    measured = texts_of(context.workspace, [c.id for c in clips]).filter(pl.col("purpose") == MEASURE)
    for r in range(round + 1):
        texts = dict(measured.filter(pl.col("round") == r).select("clip_id", "text").iter_rows())
        out["base" if r == 0 else f"M{r}"] = out["text"] = [texts.get(c.id, "") for c in clips]
    return out


def _numbers(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the plain numbers of a stage's result, nested ones by their path."""
    out: dict[str, float] = {}
    for name, value in result.items():
        if isinstance(value, bool | int | float) and value == value:
            out[f"{prefix}{name}"] = float(value)
        elif isinstance(value, Mapping):
            out |= _numbers(value, f"{prefix}{name}/")
    return out


def _words(result: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in result.items() if isinstance(value, str)}
