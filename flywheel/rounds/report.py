"""The report: one self-contained HTML page and the same figures as JSON, beside the resolved config."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flywheel.core.errors import MediaError
from flywheel.core.files import written_whole
from flywheel.core.secrets import without_secrets
from flywheel.core.types import CAPTION, CURATE, MEASURE, Clip, Estimate, RoundReport
from flywheel.curation.curating import headline
from flywheel.curation.prices import Bin, Threshold
from flywheel.media.frames import thumbnail
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import Figure, figure_of, series
from flywheel.rounds.plots import svg
from flywheel.store import Workspace
from flywheel.store.corrections import count_standing
from flywheel.store.people import excluded_names

_NUM_CLIPS = 12
_NUM_REJECTED = 50


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """A clip as the page shows it: ``picture`` is JPEG as base64, empty where ``error`` says why there is none."""

    clip: Clip
    picture: str
    error: str
    texts: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class CuratedView:
    """What was kept, in a line, and what thresholds cost and the probability was worth."""

    headline: str
    thresholds: Sequence[Threshold]
    reliability: Sequence[Bin]


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """A line of the table of figures: one estimate for each round, None where it was not measured."""

    figure: Figure
    estimates: Sequence[Estimate | None]


def write_report(context: RoundContext, reports: Sequence[RoundReport], folder: Path | None = None) -> Path:
    """Write ``report.html``, ``report.json`` and ``config.yaml`` of the last of these rounds; returns their folder.

    ``reports`` are those of all rounds up to it, the base's first. The folder is the round's if left out.
    """
    report = reports[-1]
    folder = folder or context.workspace.report_folder(report.round)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(report.to_json(), indent=2, default=str))
    resolved = yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=False)
    _write(folder / "config.yaml", without_secrets(resolved))
    _write(folder / "report.html", _page(context, reports))
    return folder


def texts_of(workspace: Workspace, clip_ids: Sequence[str]) -> pl.DataFrame:
    """All annotations of a few clips, in the order in which they were written."""
    return workspace.records.of_clips("annotations", clip_ids)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as place:
        place.write_text(text, encoding="utf-8")


def _page(context: RoundContext, reports: Sequence[RoundReport]) -> str:
    workspace, clips = context.workspace, context.clips.facts("split", "start_s", "end_s")
    environment = Environment(
        loader=PackageLoader("flywheel.rounds"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"file_name": _file_name, "estimate": _estimate}
    return environment.get_template("report.html").render(
        name=workspace.root.name,
        round=reports[-1].round,
        reports=reports,
        splits=clips.group_by("split").len().sort("split").rows(),
        num_clips=clips.height,
        hours=float((clips["end_s"] - clips["start_s"]).sum()) / 3600,
        num_corrections=count_standing(workspace, excluded_names(workspace)),
        champion=workspace.champion(),
        # Our own drawing, which is markup; all else is escaped.
        plots=Markup(svg(reports)),
        figures=_figures(reports),
        curated=_curated(reports[-1]),
        clips=_clips(context),
        rejected=_rejected(workspace),
        stages=list(dict.fromkeys(stage for report in reports for stage in report.stages_s)),
        skipped={stage for report in reports for stage, record in report.details.items() if record.get("skipped")},
    )


def _figures(reports: Sequence[RoundReport]) -> list[FigureView]:
    """Return the lines of the table; corrections, which are in no group, have a line of their own there."""
    return [
        FigureView(figure=figure_of(name), estimates=[dict(points).get(report.round) for report in reports])
        for name, points in series(reports).items()
        if "/" in name
    ]


def _curated(report: RoundReport) -> CuratedView | None:
    """What the round's curation came to; None where it had none."""
    record = report.details.get(CURATE)
    if not record or not record.get("run"):
        return None
    calibration = record["calibration"]
    return CuratedView(
        headline=headline(record),
        thresholds=[
            Threshold(at=row["at"], lost=Estimate(**row["lost"]), kept_bad=Estimate(**row["kept_bad"]))
            for row in calibration.get("thresholds", ())
        ],
        reliability=[
            Bin(**{**row, "observed": Estimate(**row["observed"])}) for row in calibration.get("reliability", ())
        ],
    )


def _file_name(uri: str) -> str:
    return Path(uri).name


def _estimate(estimate: Estimate) -> Markup:
    value, low, high = estimate.value, estimate.low, estimate.high
    if low == high:
        return Markup("{}").format(f"{value:.4g}")
    return Markup("{}<br><small>{} to {}</small>").format(f"{value:.3f}", f"{low:.3f}", f"{high:.3f}")


def _clips(context: RoundContext) -> list[ClipView]:
    """Return twelve clips, the same in every report: test clips first, since their texts are what is measured."""
    test, others = context.split("test").by_id(), context.split("train", "anchor").by_id()
    clips = [*test[:_NUM_CLIPS], *others[:_NUM_CLIPS]][:_NUM_CLIPS]
    texts = texts_of(context.workspace, [clip.id for clip in clips]).sort("round", maintain_order=True)
    views = []
    for clip in clips:
        picture, error = _picture(context, clip.id)
        rows = texts.filter(pl.col("clip_id") == clip.id).iter_rows(named=True)
        models = [(_writer(row), row["text"]) for row in rows if _is_models(row)]
        given = [
            ("transcript", clip.transcript or "(none)"),
            ("sounds", clip.sounds or ("(silence)" if clip.has_audio else "(no sound)")),
        ]
        views.append(ClipView(clip=clip, picture=picture, error=error, texts=[*given, *models]))
    return views


def _is_models(row: dict[str, Any]) -> bool:
    return bool(row["purpose"] == MEASURE or (row["kind"] == CAPTION and row["source"] == "model"))


def _writer(row: dict[str, Any]) -> str:
    """Return which model wrote a text, or for which round it was written."""
    if row["round"] == 0:
        return "base"
    return f"M{row['round']}" if row["purpose"] == MEASURE else f"for round {row['round']}"


def _picture(context: RoundContext, clip_id: str) -> tuple[str, str]:
    """Return a clip's first, middle and last frame as JPEG in base64, or why there is no picture."""
    from PIL import Image

    try:
        frames = context.input(clip_id, ("frames",)).frames_THWC
        assert frames is not None
        strip = thumbnail(frames)
    except MediaError as error:
        return "", str(error)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode(), ""


@dataclass(frozen=True, kw_only=True)
class RejectedView:
    """Open rejects: how many of each stage and reason, and the first ones by name."""

    counts: Sequence[tuple[str, str, int]]
    rows: Sequence[dict[str, Any]]


def _rejected(workspace: Workspace) -> RejectedView:
    rejected = workspace.rejected(open_only=True)
    counts = rejected.group_by("stage", "reason").len().sort("len", "stage", "reason", descending=[True, False, False])
    return RejectedView(counts=counts.rows(), rows=rejected.head(_NUM_REJECTED).to_dicts())
