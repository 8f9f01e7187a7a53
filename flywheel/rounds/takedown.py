"""Taking clips down: all that a workspace holds of them goes, and where they were used is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.rounds.context import RoundContext
from flywheel.rounds.publish import rewrite_reports
from flywheel.store import database as db


def take_down(
    context: RoundContext, names: Sequence[str], reason: str, *, keep_exports: bool = False
) -> dict[str, Any]:
    """Remove clips (ids, their first digits, or paths of their files) from records, corrections, snapshots, caches, reports and exports; the caller holds the lock.

    Returns where they were used: ``learned`` (round, stage and use), ``exports`` that held them, ``files`` outside the workspace that are not ours to delete.
    They are refused when they come again. The same command again finishes what was interrupted. Raises UserError for a name that is no clip's.
    """
    workspace = context.workspace
    ids = _ids(context, names)
    clips = workspace.clips().filter(pl.col("id").is_in(sorted(ids)))
    known = clips.height > 0
    usage = _usage(context, ids, clips) if known else _noted(context, ids)
    if known:
        # First, so that what an interrupted takedown left is known to be on its way out, and nothing is taken in again.
        _note(context, ids, reason, usage)
    texts = set(workspace.annotations().filter(pl.col("clip_id").is_in(sorted(ids)))["id"])
    removed = workspace.records.remove(
        {
            "generations": pl.col("clip_id").is_in(sorted(ids)), "embeddings": pl.col("clip_id").is_in(sorted(ids)),
            "examples": pl.col("clip_id").is_in(sorted(ids)), "rejected": pl.col("clip_id").is_in(sorted(ids)),
            "noise_signals": pl.col("annotation_id").is_in(sorted(texts)), "annotations": pl.col("clip_id").is_in(sorted(ids)),
        }
    )  # fmt: skip
    corrections = workspace.forget_corrections(ids)
    _caches(context, clips)
    for export in usage["exports"]:
        if not keep_exports and Path(export).is_dir():
            shutil.rmtree(export)
            workspace.forget_export(export)
    # Last: with the clip gone the command would not know what it was called any more.
    removed |= workspace.records.remove({"clips": pl.col("id").is_in(sorted(ids))})
    workspace.database.scrub()
    rewrite_reports(context)
    return {
        "clips": sorted(ids),
        "removed": {**removed, "corrections": corrections},
        "exports_deleted": not keep_exports,
        **usage,
    }


def _ids(context: RoundContext, names: Sequence[str]) -> set[str]:
    clips = context.workspace.clips()
    down = set(context.workspace.taken_down())
    found: set[str] = set()
    for name in names:
        path = str(Path(name).resolve())
        mine = clips.filter(pl.col("id").str.starts_with(name) | (pl.col("uri") == name) | (pl.col("uri") == path))
        ids = set(mine["id"]) or {i for i in down if i.startswith(name)}
        by_id = [i for i in ids if i.startswith(name)]
        if not ids or len(by_id) > 1:
            raise UserError(
                f"takedown {name}: names {len(by_id) or 'no'} clip{'s' * (len(by_id) != 1)}. Give the id as 'flywheel show' prints it, or the file's path."
            )
        found |= ids
    return found


def _usage(context: RoundContext, ids: set[str], clips: pl.DataFrame) -> dict[str, Any]:
    workspace = context.workspace
    learned = workspace.examples().filter(pl.col("clip_id").is_in(sorted(ids)))
    inside = str(workspace.root.resolve())
    exports = [e["out"] for e in workspace.exports() if Path(e["out"]).is_dir() and ids & set(e["clips"])]
    return {
        "learned": learned.select("clip_id", "round", "stage", "use").sort("round", "stage", "clip_id").to_dicts(),
        "anchors_of": [r for r in workspace.rounds() if r] if set(clips["split"]) & {"anchor"} else [],
        "exports": exports,
        "files": sorted({u for u in clips["uri"] if not str(Path(u).resolve()).startswith(inside)}),
    }  # fmt: skip


def _note(context: RoundContext, ids: set[str], reason: str, usage: dict[str, Any]) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [{"clip_id": i, "reason": reason, "at": at, "usage": json.dumps(usage)} for i in sorted(ids)]
    with context.workspace.database.transaction() as connection:
        context.workspace.database.insert_new(connection, db.takedowns, rows)


def _noted(context: RoundContext, ids: set[str]) -> dict[str, Any]:
    with context.workspace.database.transaction() as connection:
        raw = (
            connection.execute(sql.select(db.takedowns.c.usage).where(db.takedowns.c.clip_id.in_(sorted(ids))))
            .scalars()
            .first()
        )
    return dict(json.loads(raw)) if raw else {"learned": [], "anchors_of": [], "exports": [], "files": []}


def _caches(context: RoundContext, clips: pl.DataFrame) -> None:
    """Frames are found by hashes of content and times, under whatever settings they were decoded: the whole cache goes, and is made again as it is needed."""
    workspace = context.workspace
    shutil.rmtree(workspace.cache.folder, ignore_errors=True)
    for content_hash in set(clips["content_hash"]):
        (workspace.root / "cache" / "proxies" / content_hash[:2] / f"{content_hash}.mp4").unlink(missing_ok=True)
    others = set(workspace.clips().filter(~pl.col("id").is_in(clips["id"].to_list()))["uri"])
    for uri in set(clips["uri"]) - others:
        if Path(uri).resolve().is_relative_to((workspace.root / "media").resolve()):
            # Taken out of a tar into the workspace.
            Path(uri).unlink(missing_ok=True)
