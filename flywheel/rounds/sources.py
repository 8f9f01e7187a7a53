"""Sources left out of future rounds, and taken in again: what that is about, and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.rounds.progress import current_round
from flywheel.store import Workspace
from flywheel.store.sources import note_removed, videos_at


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Videos (content -> the path that named them) whose clips leave rounds from ``from_round`` on, or come back.

    ``clips`` counts their clips by split.
    """

    videos: Mapping[str, str]
    clips: Mapping[str, int]
    from_round: int
    undo: bool

    def to_json(self) -> dict[str, Any]:
        """Numbers of ``videos``, ``clips`` by split, ``from_round`` and ``undo``."""
        return {
            "videos": len(self.videos),
            "clips": dict(self.clips),
            "from_round": self.from_round,
            "undo": self.undo,
        }

    def to_text(self, what: str) -> str:
        """What to say on the terminal."""
        sides = ", ".join(f"{n} {split}" for split, n in sorted(self.clips.items()))
        count = f"{sum(self.clips.values())} clips of {len(self.videos)} videos"
        lines = [f"{count} {what} from round {self.from_round} on ({sides})"]
        if self.clips.get("test"):
            lines.append("later rounds' figures on the test split are over other clips than those before")
        return "\n".join(lines)


def planned(workspace: Workspace, paths: Sequence[str], *, undo: bool = False) -> Removal:
    """What :func:`remove_sources` would change. Raises UserError where that is nothing, and for a path of no clip."""
    before = workspace.removed_videos()
    videos = {video: path for video, path in videos_at(workspace, paths).items() if (video in before) == undo}
    if not videos:
        state = "are not removed" if undo else "are removed already"
        raise UserError(f"{', '.join(paths)}: {state}. 'flywheel sources list' says what is.")
    clips: dict[str, int] = {}
    wanted = pl.col("content_hash").is_in(sorted(videos))
    for frame in workspace.records.batches("clips", columns=["split", "content_hash"], where=wanted):
        for split, count in frame.group_by("split").len().iter_rows():
            clips[split] = clips.get(split, 0) + count
    return Removal(videos=videos, clips=clips, from_round=_next_round(workspace), undo=undo)


def remove_sources(workspace: Workspace, plan: Removal, reason: str) -> int:
    """Put a removal on record, or its end; returns how many videos changed. The caller holds the lock."""
    count = 0
    for path in dict.fromkeys(plan.videos.values()):
        of_path = [video for video, named in plan.videos.items() if named == path]
        count += note_removed(workspace, of_path, path, reason, from_round=plan.from_round, removed=not plan.undo)
    return count


def _next_round(workspace: Workspace) -> int:
    """The first round that has not begun: one under way ends with the clips that it began with."""
    round = current_round(workspace)
    return round + 1 if round in workspace.rounds() else round
