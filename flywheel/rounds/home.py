"""A workspace at a glance, for its home page: what comes next, its rounds with verdicts and figures, where more is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flywheel.core.types import Estimate, RoundReport
from flywheel.rounds.figures import charts, series
from flywheel.rounds.outlook import Outlook, outlook_of
from flywheel.rounds.plots import minutes_of
from flywheel.rounds.progress import (
    DONE,
    INTERRUPTED,
    comparable_rounds,
    current_round,
    current_stage,
    stage_state,
)
from flywheel.rounds.recorded import recorded
from flywheel.rounds.report import change_between, tested_against
from flywheel.rounds.verdict import VerdictCard, card_of, model_name
from flywheel.store import Workspace
from flywheel.store.dashboard import tracking_pages

#: Rounds that the page shows, the newest.
_MOST_ROUNDS = 50
_GOOD = {"up": "more is better", "down": "less is better", "": ""}
_STATES = {
    "running": "runs",
    INTERRUPTED: "was interrupted",
    "waiting": "waits for people",
    "pending": "comes next",
    "failed": "failed",
}


@dataclass(frozen=True, kw_only=True)
class FigureLine:
    """One figure in words: its label with unit, value and interval, its good direction.

    ``change`` says how it stands to the model that the round was tested against, empty where that can't be told.
    """

    label: str
    value: str
    interval: str
    good: str
    change: Literal["", "better", "worse"]


@dataclass(frozen=True, kw_only=True)
class RoundLine:
    """A round on the timeline. ``minutes`` are those that people gave, None where that is not on record."""

    round: int
    card: VerdictCard
    against: str
    figures: Sequence[FigureLine]
    corrections: int
    minutes: float | None
    has_report: bool


@dataclass(frozen=True, kw_only=True)
class Home:
    """All that the home page shows; ``rounds`` from the newest to the base.

    ``before`` counts rounds that are left out; ``charts`` is the round with whose report the newest charts lie, None
    where there are none; ``pages`` are a tracking server's, none where MLflow is the workspace's own.
    """

    name: str
    in_use: str
    under_way: str
    outlook: Outlook
    rounds: Sequence[RoundLine]
    before: int
    charts: int | None
    pages: Sequence[str]


def home_of(workspace: Workspace) -> Home:
    """What the home page of a workspace shows, from its database alone."""
    champion = workspace.champion()
    done = [r for r in workspace.rounds() if workspace.stage(r, "evaluate")[0] == DONE]
    shown = done[-_MOST_ROUNDS:]
    reports = {round: recorded(workspace, round) for round in shown}
    lines = [_line(workspace, reports, round, champion) for round in reversed(shown)]
    charts_of = [r for r in reversed(shown) if (workspace.report_folder(r) / "rounds.png").exists()]
    return Home(
        name=workspace.root.name,
        in_use=f"The model in use is {model_name(champion)}.",
        under_way=_under_way(workspace),
        outlook=outlook_of(workspace),
        rounds=lines,
        before=len(done) - len(shown),
        charts=charts_of[0] if charts_of else None,
        pages=tracking_pages(workspace),
    )


def _under_way(workspace: Workspace) -> str:
    """The round that began and is not done, with its stage; empty where there is none."""
    round = current_round(workspace)
    if round not in workspace.rounds():
        return ""
    stage = current_stage(workspace, round)
    state = stage_state(workspace, round, stage)
    return f"Round {round} is under way: {stage} {_STATES.get(state, state)}."


def _line(workspace: Workspace, reports: dict[int, RoundReport], round: int, champion: int) -> RoundLine:
    report = reports[round]
    against = tested_against(report)
    # What was measured on another split can't be compared.
    then = reports.get(against) if against in comparable_rounds(workspace, round) and against != round else None
    return RoundLine(
        round=round,
        card=card_of(report, champion),
        against=model_name(against),
        figures=_figures(report, then),
        corrections=report.num_corrections,
        minutes=minutes_of(report),
        has_report=(workspace.report_folder(round) / "report.html").exists(),
    )


def _figures(report: RoundReport, then: RoundReport | None) -> list[FigureLine]:
    """The headline figures but the corrections, which the page says itself."""
    now, before = _points(report), _points(then) if then is not None else {}
    rows = [row for section in charts(now).values() for row in section if row.name != "num_corrections"]
    return [
        FigureLine(
            label=row.title,
            value=f"{now[row.name].value:.4g}" if _is_exact(now[row.name]) else f"{now[row.name].value:.3f}",
            interval="" if _is_exact(now[row.name]) else f"{now[row.name].low:.3f} to {now[row.name].high:.3f}",
            good=_GOOD[row.good],
            change=change_between(row, now[row.name], before.get(row.name)),
        )
        for row in rows
    ]


def _points(report: RoundReport) -> dict[str, Estimate]:
    return {name: points[0][1] for name, points in series([report]).items()}


def _is_exact(estimate: Estimate) -> bool:
    return estimate.low == estimate.high
