"""Sources: the folders that clips' files lie in, and those that were removed from future rounds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.core.types import content_id
from flywheel.store import schema
from flywheel.store.places import lies_at
from flywheel.store.view import path_forms
from flywheel.store.workspace import Workspace

#: Rows of one commit.
_TOGETHER = 65_536


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder with the clips and videos that lie below it; ``removed`` are those of the clips that no round uses."""

    path: str
    clips: int
    videos: int
    hours: float
    removed: int

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        removed = "" if not self.removed else ", removed" if self.removed == self.clips else f", {self.removed} removed"
        return f"{self.path}: {self.clips} clips of {self.videos} videos, {self.hours:.2f} h{removed}"


def sources_of(workspace: Workspace, most: int) -> list[Source]:
    """The folders of all clips' files, ``most`` at most: with more of them, what they lie in stands for several."""
    gone = pl.Series(sorted(workspace.removed_videos()), dtype=pl.String)
    parts: list[pl.DataFrame] = []
    columns = ["id", "uri", "content_hash", "start_s", "end_s"]
    for frame in workspace.clip_batches(columns):
        rows = frame.select(
            "content_hash",
            seconds=pl.col("end_s") - pl.col("start_s"),
            removed=pl.col("content_hash").is_in(gone.implode()),
            folder=pl.col("uri").str.replace(r"[/\\][^/\\]*$", ""),
        )
        parts.append(_summed(rows.with_columns(clips=pl.lit(1))))
    if not parts:
        return []
    found = _summed(pl.concat(parts))
    folders = found["folder"].unique()
    depth = max(len(PurePath(folder).parts) for folder in folders)
    while depth > 1 and len(folders) > most:
        depth -= 1
        upper = {folder: str(PurePath(*PurePath(folder).parts[:depth])) for folder in folders}
        found = _summed(found.with_columns(pl.col("folder").replace(upper)))
        folders = found["folder"].unique()
    by_folder = found.group_by("folder").agg(
        pl.col("clips", "seconds", "removed").sum(), videos=pl.col("content_hash").n_unique()
    )
    return [
        Source(path=row["folder"], hours=row["seconds"] / 3600, **{n: row[n] for n in ("clips", "videos", "removed")})
        for row in by_folder.sort("folder").iter_rows(named=True)
    ]


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each video of a folder."""
    return rows.group_by("folder", "content_hash").agg(pl.col("clips", "seconds", "removed").sum())


def videos_at(workspace: Workspace, paths: Sequence[str]) -> dict[str, str]:
    """Contents of the files at these paths, or below these folders -> the path that each is of.

    Raises UserError for a path without any.
    """
    place, found = schema.locations.c, dict[str, str]()
    for path in paths:
        here: list[str] = []
        with workspace.database.transaction() as connection:
            for form in {form.rstrip("/") for form in path_forms(path)}:
                where = lies_at(workspace.root, place.uri, form)
                here += connection.execute(sql.select(place.content_hash).where(where)).scalars()
        if not here:
            raise UserError(f"{path}: no clip's file lies there. 'flywheel sources list' names the folders.")
        found |= dict.fromkeys(here, path)
    return found


def note_removed(
    workspace: Workspace, videos: Collection[str], source: str, reason: str, *, from_round: int, removed: bool = True
) -> int:
    """Note that no round from this one on uses these videos (contents), or all of them do; returns how many changed.

    The caller holds the lock.
    """
    before = workspace.removed_videos()
    changed = [video for video in sorted(videos) if (video in before) != removed]
    at = datetime.now(UTC).isoformat()
    row = {"source": source, "removed": removed, "reason": reason, "from_round": from_round, "at": at}
    for start in range(0, len(changed), _TOGETHER):
        some = changed[start : start + _TOGETHER]
        rows = [{"id": content_id("removal", video, at), "video": video, **row} for video in some]
        workspace.records.append("removals", rows)
    return len(changed)
