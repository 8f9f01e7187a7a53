"""The report: one self-contained HTML page and the same figures as JSON, beside the resolved config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flywheel.core.files import written_whole
from flywheel.core.secrets import without_secrets
from flywheel.core.types import Estimate, RoundReport
from flywheel.metrics.facts import ClipFacts
from flywheel.rounds.context import RoundContext
from flywheel.rounds.curation_files import write_curation
from flywheel.rounds.curation_view import CuratedView, curated_view
from flywheel.rounds.facts import clip_facts
from flywheel.rounds.facts_view import furthest, write_facts
from flywheel.rounds.figures import Figure, figure_of, series
from flywheel.rounds.outlook import Outlook, outlook_of
from flywheel.rounds.plots import minutes_of, svg
from flywheel.rounds.progress import current_round
from flywheel.rounds.repair_view import repair_view
from flywheel.rounds.report_clips import clip_groups
from flywheel.rounds.verdict import card_of, model_name
from flywheel.store import Workspace
from flywheel.store.corrections import count_standing
from flywheel.store.people import excluded_names

_NUM_REJECTED = 50


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """A line of the table of figures: one estimate for each round, None where it was not measured.

    ``change`` says whether the last round is surely better or worse than the model that it was tested against: their
    intervals do not meet. Empty where that can't be told.
    """

    figure: Figure
    estimates: Sequence[Estimate | None]
    change: Literal["", "better", "worse"] = ""


@dataclass(frozen=True, kw_only=True)
class EffortView:
    """What people gave to a round; None of what is not on record."""

    round: int
    corrections: int
    people: int
    minutes: float | None
    seconds_each: float | None
    edit_rate: float | None


def write_report(context: RoundContext, reports: Sequence[RoundReport], folder: Path | None = None) -> Path:
    """Write ``report.html``, ``report.json`` and ``config.yaml`` of the last of these rounds; returns their folder.

    Beside them lies ``curation/`` where the round had its clips curated (:mod:`flywheel.rounds.curation_files`), and
    ``facts.jsonl`` where a judge compared its texts' facts with people's.

    ``reports`` are those of all rounds up to it, the base's first. The folder is the round's if left out.
    """
    report = reports[-1]
    folder = folder or context.workspace.report_folder(report.round)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(report.to_json(), indent=2, default=str))
    resolved = yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=False)
    _write(folder / "config.yaml", without_secrets(resolved))
    curated = curated_view(context, report)
    facts = clip_facts(context, report.round)
    _write(folder / "report.html", _page(context, reports, curated, facts))
    write_facts(context, facts, folder)
    write_curation(curated, folder)
    return folder


def texts_of(workspace: Workspace, clip_ids: Sequence[str]) -> pl.DataFrame:
    """All annotations of a few clips, in the order in which they were written."""
    return workspace.records.of_clips("annotations", clip_ids)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as place:
        place.write_text(text, encoding="utf-8")


def _outlook(workspace: Workspace, round: int, num_rejects: int) -> Outlook | None:
    """Return what is needed and comes next; None for the report of a round that others came after."""
    newest = current_round(workspace) - 1
    return outlook_of(workspace, num_rejects) if round == newest else None


def _page(
    context: RoundContext, reports: Sequence[RoundReport], curated: CuratedView | None, facts: Sequence[ClipFacts]
) -> str:
    workspace, clips = context.workspace, context.clips
    environment = Environment(
        loader=PackageLoader("flywheel.rounds"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"file_name": _file_name, "estimate": _estimate}
    rejected = _rejected(workspace)
    return environment.get_template("report.html").render(
        name=workspace.root.name,
        round=reports[-1].round,
        reports=reports,
        splits=list(clips.split_sizes().items()),
        num_clips=len(clips),
        hours=clips.seconds() / 3600,
        num_corrections=count_standing(workspace, excluded_names(workspace)),
        card=card_of(reports[-1], workspace.champion()),
        outlook=_outlook(workspace, reports[-1].round, sum(count for _, _, count in rejected.counts)),
        champion=workspace.champion(),
        # Our own drawing, which is markup; all else is escaped.
        plots=Markup(svg(reports)),
        sections=_sections(reports),
        against=model_name(tested_against(reports[-1])),
        effort=_effort(reports),
        repaired=repair_view(context, reports[-1]),
        curated=curated,
        facts=furthest(context, facts),
        unsure=[clip.why for clip in facts if clip.why],
        groups=clip_groups(context, reports),
        rejected=rejected,
        stages=list(dict.fromkeys(stage for report in reports for stage in report.stages_s)),
        skipped={stage for report in reports for stage, record in report.details.items() if record.get("skipped")},
    )


def _sections(reports: Sequence[RoundReport]) -> dict[str, list[FigureView]]:
    """Return section -> its lines of the table; corrections, which are in no group, have a line of their own there."""
    against = tested_against(reports[-1])
    sections: dict[str, list[FigureView]] = {"Quality": []}
    for name, points in series(reports).items():
        if "/" not in name:
            continue
        figure, known = figure_of(name), dict(points)
        estimates = [known.get(report.round) for report in reports]
        change = change_between(figure, known.get(reports[-1].round), known.get(against))
        sections.setdefault(figure.place, []).append(FigureView(figure=figure, estimates=estimates, change=change))
    diagnostics = sections.pop("Diagnostics", [])
    return {name: lines for name, lines in {**sections, "Diagnostics": diagnostics}.items() if lines}


def tested_against(report: RoundReport) -> int:
    """The round whose model a round was tested against; the base where it was not tested."""
    return int(report.details.get("gate", {}).get("against", 0))


def change_between(figure: Figure, now: Estimate | None, then: Estimate | None) -> Literal["", "better", "worse"]:
    """Whether a figure is surely better or worse than it was: intervals that do not meet; empty where none can tell."""
    if now is None or then is None or now is then or not figure.good or now.low == now.high or then.low == then.high:
        return ""
    if now.low > then.high:
        return "better" if figure.good == "up" else "worse"
    if now.high < then.low:
        return "worse" if figure.good == "up" else "better"
    return ""


def _effort(reports: Sequence[RoundReport]) -> list[EffortView]:
    """Return what people gave to each round that they reviewed."""
    return [
        EffortView(
            round=report.round,
            corrections=report.num_corrections,
            people=len(record.get("refiners", ())),
            minutes=minutes_of(report),
            seconds_each=record.get("seconds_each"),
            edit_rate=record.get("edit_rate"),
        )
        for report in reports
        if (record := report.details.get("review", {})).get("refiners")
    ]


def _file_name(uri: str) -> str:
    return Path(uri).name


def _estimate(estimate: Estimate) -> Markup:
    value, low, high = estimate.value, estimate.low, estimate.high
    if low == high:
        return Markup("{}").format(f"{value:.4g}")
    return Markup("{}<br><small>{} to {}</small>").format(f"{value:.3f}", f"{low:.3f}", f"{high:.3f}")


@dataclass(frozen=True, kw_only=True)
class RejectedView:
    """Open rejects: how many of each stage and reason, and the first ones by name."""

    counts: Sequence[tuple[str, str, int]]
    rows: Sequence[dict[str, Any]]


def _rejected(workspace: Workspace) -> RejectedView:
    rejected = workspace.rejected(open_only=True)
    counts = rejected.group_by("stage", "reason").len().sort("len", "stage", "reason", descending=[True, False, False])
    return RejectedView(counts=counts.rows(), rows=rejected.head(_NUM_REJECTED).to_dicts())
