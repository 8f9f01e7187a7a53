"""What people have said and can be asked: counts from the database and a few columns, quick for a million clips."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from flywheel.core.errors import BorderError
from flywheel.core.types import CAPTION, LEARN
from flywheel.rounds.progress import DONE, current_round
from flywheel.store import Workspace
from flywheel.store.corrections import standing_words
from flywheel.store.gold import gold_texts
from flywheel.store.people import excluded_names


def anchor_videos(workspace: Workspace) -> int | None:
    """How many videos have anchor clips; None where damage hides it."""
    return videos_in(workspace, "anchor")


def videos_in(workspace: Workspace, split: str) -> int | None:
    """How many videos have clips in a split; None where damage hides it."""
    contents = _readable(workspace, "content_hash", pl.col("split") == split)
    return None if contents is None else contents.n_unique()


def can_be_asked(workspace: Workspace) -> int | None:
    """How many clips get captions that people may correct; None where damage hides it."""
    asked = _readable(workspace, "split", pl.col("split") != "test")
    return None if asked is None else len(asked)


def _readable(workspace: Workspace, column: str, where: pl.Expr) -> pl.Series | None:
    """A column of some clips; None where a shard is damaged, which status says elsewhere."""
    try:
        if gone := workspace.removed_videos(current_round(workspace)):
            where &= ~pl.col("content_hash").is_in(sorted(gone))
        return workspace.records.read("clips", columns=[column], where=where)[column]
    except BorderError as error:
        if error.code != "shard":
            raise
        return None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What people said: the newest annotated round, its captions with a word that stands, corrected anchor videos."""

    round: int
    texts: int = 0
    anchors: int = 0
    gold: int = 0

    @classmethod
    def of(cls, workspace: Workspace, round: int | None = None) -> Answers:
        rounds = [r for r in workspace.rounds() if r > 0 and workspace.stage(r, "annotate")[0] != "pending"]
        newest = max(rounds, default=0) if round is None else round
        words, gold = standing_words(workspace, excluded_names(workspace)), gold_texts(workspace)
        if not words:
            return cls(round=newest, gold=len(gold))
        wanted = sorted({word.annotation_id for word in words})
        try:
            rows = workspace.records.rows("annotations", wanted, ["id", "round", "kind", "purpose", "clip_id"])
            clips = workspace.records.rows("clips", {word.clip_id for word in words}, ["id", "split", "content_hash"])
        except BorderError as error:
            if error.code != "shard":
                raise
            return cls(round=newest)
        captions = rows.filter((pl.col("kind") == CAPTION) & (pl.col("purpose") == LEARN))
        captions = captions.filter(~pl.col("clip_id").is_in(list(gold)))
        right = [word.annotation_id for word in words if word.verdict in ("accept", "edit")]
        of_anchors = captions.filter(pl.col("id").is_in(right))["clip_id"].unique().implode()
        gone = sorted(workspace.removed_videos(current_round(workspace)))
        anchors = clips.filter((pl.col("split") == "anchor") & pl.col("id").is_in(of_anchors))
        anchors = anchors.filter(~pl.col("content_hash").is_in(gone)) if gone else anchors
        texts = captions.filter(pl.col("round") == newest).height
        return cls(round=newest, texts=texts, anchors=anchors["content_hash"].n_unique(), gold=len(gold))


def captions_of(workspace: Workspace, round: int) -> int:
    """How many captions a round has: as its stage recorded, counted while it is under way."""
    if round == 0:
        return 0
    state, record = workspace.stage(round, "annotate")
    return int(record["annotations"]) if state == DONE and "annotations" in record else workspace.count_texts(round)


def left_to_ask(workspace: Workspace, round: int) -> int:
    """How many captions of a round nobody has reviewed; gold, which is known, is not asked of."""
    answers = Answers.of(workspace, round)
    return max(0, captions_of(workspace, round) - answers.texts - answers.gold)
