"""What failed and is still open: listed, tried again, or closed with a reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines
from flywheel.store import Workspace
from flywheel.store.view import SAME_FAILURE

_SHOWN = ("id", "stage", "round", "uri", "start_s", "end_s", "clip_id", "kind", "reason", "source", "at")
#: Stages whose rejects can be tried again here; those of the others are made again by their round.
_RETRIED = ("ingest", "annotate")
#: Kinds of text that narratives are made of, which 'flywheel narrate' asks for.
_TOLD = ("fused", "consistency", "redundancy", "narrative")


@dataclass(frozen=True, kw_only=True)
class Rejects:
    """Open rejects, oldest first."""

    frame: pl.DataFrame

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.frame.height

    def to_json(self, limit: int) -> dict[str, Any]:
        """The number of all, counts by stage, and the last ``limit`` rows."""
        by_stage = dict(self.frame.group_by("stage").len().sort("stage").iter_rows())
        return {"open": self.rows, "by_stage": by_stage, "rows": self.frame.select(_SHOWN).tail(limit).to_dicts()}

    def to_text(self, limit: int) -> str:
        """A line for each of the last ``limit`` rows, with what is not shown."""
        if not self.rows:
            return "nothing failed that is still open"
        lines = [_line(row) for row in self.frame.tail(limit).iter_rows(named=True)]
        left = self.rows - len(lines)
        return as_lines([*([f"{left} older ones are not shown (--limit)"] if left else []), *lines])


def _line(row: dict[str, Any]) -> str:
    where = row["uri"] + _times(row) + (f" (clip {row['clip_id'][:12]})" if row["clip_id"] else "")
    when = row["stage"] if row["stage"] == "ingest" else f"round {row['round']} {row['stage']}"
    return f"{when}: {where}: {row['reason']}"


def _times(row: dict[str, Any]) -> str:
    """The span that a source names; empty where it names none."""
    start_s, end_s = row["start_s"], row["end_s"]
    if start_s is None and end_s is None:
        return ""
    return f" from {start_s or 0:g} s" + ("" if end_s is None else f" to {end_s:g} s")


def open_rejects(workspace: Workspace, stage: str = "") -> Rejects:
    """What failed and is still open, of one stage or of all. Raises UserError for a stage that has none."""
    frame = workspace.rejected(open_only=True)
    stages = frame["stage"].unique().sort().to_list()
    if stage and stage not in stages:
        known = ", ".join(stages) or "none"
        raise UserError(f"--stage {stage}: nothing of it failed. Open rejects are of: {known}.")
    return Rejects(frame=frame.filter(pl.col("stage") == stage) if stage else frame)


def dismissed(workspace: Workspace, found: Rejects, reason: str) -> int:
    """Close rejects, with a reason on record; returns how many. The caller holds the lock.

    What fails again for another reason is open again.
    """
    return workspace.dismiss(found.frame["id"].to_list(), reason)


@dataclass(frozen=True, kw_only=True)
class Retried:
    """How many rejects were ``tried`` again, how many of them are ``open`` still, and what was ``left`` and why."""

    tried: int
    open: int
    left: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**asdict(self), "left": list(self.left)}

    def __str__(self) -> str:
        return f"{self.tried} rejects tried again: {self.tried - self.open} succeeded, {self.open} are still open"


def retried(workspace: Workspace, found: Rejects) -> Retried:
    """Take in again the sources of what was rejected, and ask again about clips that a model failed at.

    Whole sources: a file alone would not tell which spans of it a table names, nor its words. Models are asked with
    other sampling.
    """
    stages = set(found.frame["stage"])
    ingested = pl.col("stage") == "ingest"
    again, nowhere = _sources(found.frame.filter(ingested))
    if again:
        _ingested(workspace, again)
    is_told = (pl.col("stage") == "annotate") & pl.col("kind").is_in(_TOLD)
    if not found.frame.filter((pl.col("stage") == "annotate") & ~is_told).is_empty():
        _asked(workspace)
    is_tried = pl.col("stage").is_in(_RETRIED) & ~is_told & (~ingested | pl.col("source").is_in(again))
    tried = found.frame.filter(is_tried)
    still = tried.join(workspace.rejected(open_only=True), on=SAME_FAILURE, how="semi", nulls_equal=True)
    others = stages - set(_RETRIED)
    left = [f"{name}: is tried again by the next 'flywheel {_command(name)}'" for name in sorted(others)]
    if not found.frame.filter(is_told).is_empty():
        left.append("narrate: texts of long videos are asked for again by 'flywheel narrate --retry-failed'")
    if nowhere:
        named = f"{len(nowhere)} files whose source is not on record, such as {nowhere[0]}"
        left.append(f"ingest: {named}: run 'flywheel ingest SOURCE' again")
    return Retried(tried=tried.height, open=still.height, left=left)


def _command(stage: str) -> str:
    return stage if stage in ("transcribe", "curate", "index") else "round"


def _sources(rejects: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Sources that can be taken in again, in the order of their first reject; and files whose source is not known."""
    from flywheel.ingest.links import is_of_a_store

    again, nowhere = dict[str, None](), dict[str, None]()
    for uri, source in rejects.select("uri", "source").iter_rows():
        # Versions before kept none. A link that its folder may not follow would be followed where it is named itself.
        is_link = source == uri and os.path.islink(uri) and not is_of_a_store(Path(os.path.realpath(uri)))
        if not source or is_link:
            nowhere[uri] = None
        else:
            again[source] = None
    return list(again), list(nowhere)


def _ingested(workspace: Workspace, sources: Sequence[str]) -> None:
    from flywheel.ingest import SourcesError, ingest

    # What is gone stays what it is: an open reject.
    with workspace.lock(), contextlib.suppress(SourcesError):
        ingest(workspace, sources)


def _asked(workspace: Workspace) -> None:
    from flywheel.rounds import RoundContext
    from flywheel.rounds.conductor import check_before, evaluate_again
    from flywheel.rounds.progress import current_round
    from flywheel.rounds.stages.annotate import write

    context = RoundContext(workspace)
    with workspace.lock():
        check_before(context)
        write(context, current_round(workspace), retry_failed=True)
        evaluate_again(context)
