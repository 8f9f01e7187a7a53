"""Curation on the report's page: what was kept, what probabilities are worth, costs, and clips to look at and hear."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import FlywheelError
from flywheel.core.types import CRITERIA, CURATE, Clip, Estimate, RoundReport
from flywheel.curation.curating import headline
from flywheel.curation.policy import P_MATCH
from flywheel.curation.prices import Bin, Threshold
from flywheel.media.encode import Quality, transcode
from flywheel.rounds.context import RoundContext
from flywheel.store import Workspace

#: Clips that are shown of those kept and of those dropped: half of them nearest to the cut, half farthest from it.
_EACH = 4
#: Small and short, since they are part of the page.
_QUALITY, _MOST_SIDE, _MOST_S = Quality(crf=34, preset="veryfast", threads=1), 192, 8.0
_BARS = 20


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Clips ``kept`` and ``dropped`` whose P(match), or score from 0 to 10, begins with ``low``."""

    low: float
    kept: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip with what was decided; ``video`` is MP4 as base64, empty where ``error`` says why there is none."""

    clip: Clip
    score: float
    reason: str
    video: str
    error: str


@dataclass(frozen=True, kw_only=True)
class CuratedView:
    """What was kept, in a line, what thresholds cost and the probability was worth, costs by name, and examples.

    ``bars`` are by P(match), ``criteria`` by each criterion's scores; empty where there are none.
    """

    headline: str
    thresholds: Sequence[Threshold]
    reliability: Sequence[Bin]
    bars: Sequence[Bar]
    criteria: Mapping[str, Sequence[Bar]]
    most: int
    costs: Sequence[tuple[str, float]]
    stability: Sequence[tuple[str, float]]
    examples: Mapping[str, Sequence[Example]]


def curated_view(context: RoundContext, report: RoundReport) -> CuratedView | None:
    """What the round's curation came to; None where it had none."""
    record = report.details.get(CURATE)
    if not record or not record.get("run"):
        return None
    calibration, decided = record["calibration"], context.workspace.decisions(record["run"])
    bars = _bars(decided) if record["threshold"].get("by") == P_MATCH else []
    return CuratedView(
        headline=headline(record),
        thresholds=[
            Threshold(at=row["at"], lost=Estimate(**row["lost"]), kept_bad=Estimate(**row["kept_bad"]))
            for row in calibration.get("thresholds", ())
        ],
        reliability=[
            Bin(**{**row, "observed": Estimate(**row["observed"])}) for row in calibration.get("reliability", ())
        ],
        bars=bars,
        criteria=criteria(context.workspace, decided) if record.get("judged") else {},
        most=max((bar.kept + bar.dropped for bar in bars), default=1) or 1,
        costs=[(name.replace("_", " "), value) for name, value in record["cost"].items() if value],
        stability=_stability(record.get("judged") or {}),
        examples=_examples(context, decided),
    )


def _stability(judged: Mapping[str, Any]) -> list[tuple[str, float]]:
    """How far a judge agrees with itself, in words; empty without one."""
    found = []
    for name, words in (("order", "texts swapped"), ("repeat", "asked again")):
        for figure, value in (
            ("rank correlation", ((judged.get(name) or {}).get("spearman") or {}).get("mean")),
            ("same clips kept", (judged.get(name) or {}).get("jaccard")),
        ):
            if value is not None:
                found.append((f"{words}: {figure}", float(value)))
    return found


def _bars(decided: pl.DataFrame) -> list[Bar]:
    return _counted(decided["score"].to_numpy(), decided["kept"].to_numpy(), np.linspace(0, 1, _BARS + 1))


def criteria(workspace: Workspace, decided: pl.DataFrame) -> dict[str, list[Bar]]:
    """Clips by what the judge's scores are, a list for each criterion; empty without a judgement."""
    scored = workspace.judgements(words=False).select("clip_id", *CRITERIA).drop_nulls()
    both = scored.join(decided.select("clip_id", "kept"), on="clip_id")
    edges, kept = np.arange(12.0), both["kept"].to_numpy()
    return {name: _counted(both[name].to_numpy(), kept, edges) for name in CRITERIA if both.height}


def _counted(scores: NDArray[Any], kept: NDArray[np.bool_], edges: NDArray[Any]) -> list[Bar]:
    counts = [np.histogram(scores[heap & ~np.isnan(scores)], bins=edges)[0] for heap in (kept, ~kept)]
    return [Bar(low=float(low), kept=int(a), dropped=int(b)) for low, a, b in zip(edges, *counts, strict=False)]


def _examples(context: RoundContext, decided: pl.DataFrame) -> dict[str, list[Example]]:
    """Clips kept and dropped that have a score: those nearest to the cut, and those that are clearest."""
    scored, found = decided.drop_nulls("score").sort("score", "clip_id"), {}
    for words, heap in (("kept", scored.filter("kept")), ("dropped", scored.filter(~pl.col("kept")))):
        ends = pl.concat([heap.head(_EACH // 2), heap.tail(_EACH // 2)]).unique("clip_id", maintain_order=True)
        rows = [row for row in ends.iter_rows(named=True) if row["clip_id"] in context.clips]
        found[words] = [_example(context, context.clips[row["clip_id"]], row["score"], row["reason"]) for row in rows]
    return {words: some for words, some in found.items() if some}


def _example(context: RoundContext, clip: Clip, score: float, reason: str) -> Example:
    video, error = "", ""
    with tempfile.TemporaryDirectory() as folder:
        out, end_s = Path(folder) / "clip.mp4", min(clip.end_s, clip.start_s + _MOST_S)
        try:
            # On a workspace's other host the file comes when it is first read.
            context.workspace.originals.check(clip.uri, clip.content_hash)
            transcode(Path(clip.uri), out, quality=_QUALITY, start_s=clip.start_s, end_s=end_s, max_side=_MOST_SIDE)
            video = base64.b64encode(out.read_bytes()).decode()
        except FlywheelError as problem:
            error = str(problem)
    return Example(clip=clip, score=score, reason=reason, video=video, error=error)
