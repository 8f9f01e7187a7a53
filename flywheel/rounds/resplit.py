"""Splits a corpus anew, by video: what older versions drew clip by clip, and families that came to be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.config import Corpus
from flywheel.core.errors import UserError
from flywheel.core.progress import progress
from flywheel.core.types import Split
from flywheel.ingest.clips import split_of, split_place
from flywheel.ingest.sides import unite_copies
from flywheel.rounds.answers import anchor_videos
from flywheel.rounds.champion import put_in_force
from flywheel.rounds.context import RoundContext
from flywheel.rounds.progress import DONE, LAST_RESPLIT, last_resplit
from flywheel.store import Workspace
from flywheel.store.videos import RESPLITTING

REASON = "the corpus was split anew, so models before it learned from clips that measure now"


@dataclass(frozen=True, kw_only=True)
class Resplit:
    """What a new split changes, or would."""

    #: Clips by their splits, before and after.
    before: Mapping[str, int]
    after: Mapping[str, int]
    #: Clips that change sides, and test and anchor clips that were of videos which are learned from too.
    moved: int
    leaking: int
    videos: int
    #: Videos that could not be looked at, since their files are gone: their copies are not known.
    unseen: int
    #: The last round of the old split: the figures of rounds up to it are not comparable with later ones.
    last_round: int

    def to_text(self, does: str) -> str:
        """What to say on the terminal."""
        sides = ", ".join(f"{self.after.get(s, 0)} {s} (were {n})" for s, n in sorted(self.before.items()))
        lines = [f"{self.moved} clips of {self.videos} videos {does}: {sides}"]
        if self.leaking:
            lines.append(f"{self.leaking} test and anchor clips were of videos that are learned from too")
        if self.unseen:
            lines.append(f"{self.unseen} videos could not be looked at: their files are gone, so copies are not known")
        if self.last_round:
            lines.append(
                f"figures up to round {self.last_round} are not comparable with later ones; "
                "the base is champion, and is measured anew with the next round"
            )
        return "\n".join(lines)


def planned_resplit(workspace: Workspace) -> Resplit:
    """What :func:`resplit` would change; copies are looked for, no split changes. The caller holds the lock.

    Raises UserError while a round is under way.
    """
    last = _last_round(workspace)
    leak, unseen = workspace.videos.leak(), _unite(workspace)
    before, after, moved = _count(workspace)
    return Resplit(
        before=before,
        after=after,
        moved=moved,
        leaking=0 if leak is None else leak.clips,
        videos=workspace.videos.count(),
        unseen=unseen,
        last_round=last,
    )


def resplit(context: RoundContext, plan: Resplit) -> None:
    """Draw every family's side anew and put its clips there; the caller holds the lock.

    People's words stay. The base becomes champion, and its figures are measured anew. Killed, the same command goes on.
    """
    workspace = context.workspace
    if workspace.meta(RESPLITTING) != "yes":
        workspace.videos.draw(_draw(workspace), {RESPLITTING: "yes", LAST_RESPLIT: str(plan.last_round)})
    workspace.records.rewrite("clips", lambda frame: _on_their_sides(workspace, frame))
    if workspace.champion():
        put_in_force(context, 0, REASON, "resplit")
    if workspace.stage(0, "evaluate")[0] == DONE:
        workspace.set_stage(0, "evaluate", "pending", {})
    workspace.set_meta(RESPLITTING, "no")


def draw_missing_anchors(workspace: Workspace) -> int:
    """Draw ``corpus.min_anchor_videos`` where there are fewer and no round began yet; returns how many there are now.

    Returns 0 where nothing was drawn. The caller holds the lock; killed, 'flywheel resplit' finishes it.
    """
    have = anchor_videos(workspace)
    if have is None or have >= workspace.config.corpus.min_anchor_videos or workspace.rounds():
        return 0
    workspace.videos.list_older()
    _unite_joined(workspace)
    workspace.videos.draw(_draw(workspace), {RESPLITTING: "yes"})
    workspace.records.rewrite("clips", lambda frame: _on_their_sides(workspace, frame))
    workspace.set_meta(RESPLITTING, "no")
    now = anchor_videos(workspace) or 0
    return now if now > have else 0


def _draw(workspace: Workspace) -> Callable[[str], Split]:
    """What puts a family on its side: its name, and the number of anchors that there must be at least."""
    corpus = workspace.config.corpus
    end = _anchors_end(workspace.videos.families(), corpus) if corpus.min_anchor_videos else 0.0
    return lambda family: split_of(family, corpus, end)


def _anchors_end(families: Mapping[str, int], corpus: Corpus) -> float:
    """Up to which place families are anchors, so that there are as many anchor videos as there must be."""
    placed = sorted((split_place(name), count) for name, count in families.items())
    rest = [(place, count) for place, count in placed if place >= corpus.test_share]
    wanted, have = min(corpus.min_anchor_videos, sum(count for _, count in rest) // 2), 0
    for place, count in rest:
        if have >= wanted:
            return place
        have += count
    # The last family alone would reach the number: somebody must be learned from.
    return rest[-1][0] if rest else 0.0


def is_under_way(workspace: Workspace) -> bool:
    """Whether a new split was begun and not finished."""
    return workspace.meta(RESPLITTING) == "yes"


def _last_round(workspace: Workspace) -> int:
    rounds = workspace.rounds()
    last = rounds[-1] if rounds else 0
    if last and workspace.stage(last, "gate")[0] != DONE and not is_under_way(workspace):
        raise UserError(f"resplit: round {last} is under way and stands on the old split. Finish it: flywheel round.")
    return last_resplit(workspace) if is_under_way(workspace) else last


def _unite(workspace: Workspace) -> int:
    """Make one family of what belongs together; returns how many videos could not be looked at."""
    workspace.videos.list_older()
    unseen = 0
    with progress("resplit", workspace.videos.count()) as bar:
        for videos in workspace.videos.batches():
            places = workspace.places({video.content_hash for video in videos})
            for video in videos:
                # Its family may have changed since the batch was read.
                now = workspace.videos.known([video.content_hash])[video.content_hash]
                unseen += not unite_copies(workspace, now, Path(places.get(video.content_hash, "")))
                bar.advance()
    _unite_joined(workspace)
    return unseen


def _unite_joined(workspace: Workspace) -> None:
    """Make one family of those on different sides that belong together, also by way of others."""
    went_into: dict[str, str] = {}

    def name_now(name: str) -> str:
        while name in went_into:
            name = went_into[name]
        return name

    for pair in workspace.videos.joined():
        into, other = sorted(map(name_now, pair))
        if into != other:
            workspace.videos.unite([other], into)
            went_into[other] = into


def _count(workspace: Workspace) -> tuple[dict[str, int], dict[str, int], int]:
    """Clips by split now and after a new draw, and how many change sides."""
    draw = _draw(workspace)
    counts: dict[tuple[str, str], int] = {}
    for frame in workspace.records.batches("clips", columns=["content_hash", "split"]):
        known = workspace.videos.known(frame["content_hash"].unique())
        to = {h: draw(video.family) for h, video in known.items()}
        for h, split in frame.iter_rows():
            counts[split, to[h]] = counts.get((split, to[h]), 0) + 1
    before, after = dict[str, int](), dict[str, int]()
    for (old, new), number in counts.items():
        before[old] = before.get(old, 0) + number
        after[new] = after.get(new, 0) + number
    return before, after, sum(number for (old, new), number in counts.items() if old != new)


def _on_their_sides(workspace: Workspace, frame: pl.DataFrame) -> pl.DataFrame:
    sides: dict[str, Any] = workspace.videos.sides(frame["content_hash"].unique())
    return frame.with_columns(split=pl.col("content_hash").replace_strict(sides, return_dtype=pl.String))
