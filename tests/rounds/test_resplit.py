"""A corpus that was drawn clip by clip is told what leaks, and can be drawn anew by video."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.ingest.clips import split_of, split_place
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.champion import compare, promote, put_in_force
from flywheel.rounds.resplit import draw_missing_anchors, planned_resplit, resplit
from flywheel.status import status_of
from flywheel.store import Workspace, schema
from flywheel.store.records import Records
from flywheel.store.videos import LISTED
from tests.house.test_cli import in_process
from tests.ingest.test_sides import ROUGH, take, transcode
from tests.rounds.test_rounds import context_of, correct

Make = Callable[..., Workspace]
CUT = ("corpus.split_by=length", "corpus.clip_len_s=1.1", "corpus.test_share=0.3", "corpus.anchor_share=0.2")


def drawn_clip_by_clip(workspace: Workspace) -> None:
    """Make the workspace one of a version that drew clips and kept no list of videos."""
    rows = [{**c, "split": split_of(c["id"], workspace.config.corpus)} for c in workspace.clips().to_dicts()]
    with workspace.lock():
        workspace.records.remove({"clips": pl.lit(True)})
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            workspace.records.append("clips", part)
        with workspace.database.transaction() as connection:
            for table in (schema.videos, schema.looks_like):
                connection.execute(sql.delete(table))
            connection.execute(sql.delete(schema.meta).where(schema.meta.c.key == LISTED))


@pytest.fixture
def context(make_workspace: Make, corpus: Path, tmp_path: Path) -> RoundContext:
    """Twenty videos in three clips each and a copy of one of them, as an older version had drawn them."""
    w = context_of(make_workspace, corpus, *CUT).workspace
    transcode(corpus / "corpus" / "clip-00000.mp4", tmp_path / "copy.mp4", quality=ROUGH)
    take(w, tmp_path / "copy.mp4")
    drawn_clip_by_clip(w)
    return RoundContext(w)


def sides(workspace: Workspace) -> dict[str, set[str]]:
    frame = workspace.clips().select("content_hash", "split").unique()
    return {h: set(of["split"]) for (h,), of in frame.group_by("content_hash")}


@pytest.mark.slow
def test_it_is_told_what_leaks_and_drawn_anew_by_video(context: RoundContext) -> None:
    w = context.workspace
    run_round(context)
    put_in_force(context, 1, "as if it had been proven")
    correct(context, context.split("train")[0].id, "a person's text")
    leak = status_of(w).leak
    assert leak is not None
    clips = w.clips()
    learned = set(clips.filter(split="train")["content_hash"])
    leaking = clips.filter(pl.col("content_hash").is_in(list(learned)) & (pl.col("split") != "train"))
    assert leak.clips == leaking.height > 10
    assert f"split: {leak.clips} of {leak.measured} test and anchor clips (" in str(status_of(w))

    with w.lock():
        plan = planned_resplit(w)
    assert w.clips().equals(clips), "a plan changes nothing"
    assert (plan.leaking, plan.videos, plan.unseen, plan.last_round) == (leak.clips, 21, 0, 1)
    with w.lock():
        resplit(context, plan)
    after = w.clips()
    assert after.drop("split").equals(clips.drop("split"))
    assert dict(after.group_by("split").len().iter_rows()) == plan.after
    assert (after["split"] != clips["split"]).sum() == plan.moved
    by_video = sides(w)
    assert all(len(of) == 1 for of in by_video.values())
    one = pl.col("uri").str.contains("clip-00000|copy")
    copies = after.filter(one)["content_hash"].unique().to_list()
    assert len(copies) == 2
    assert by_video[copies[0]] == by_video[copies[1]]
    assert status_of(w).leak is None
    assert w.num_corrections() == 1
    with w.lock():
        assert planned_resplit(w).moved == 0, "drawn again it is the same"

    assert (w.champion(), w.stage(0, "evaluate")[0]) == (0, "pending")
    later = RoundContext(w)
    with w.lock(), pytest.raises(UserError, match="split anew after round 1, whose model learned from clips"):
        promote(later, 1, force="I want it")
    assert run_round(later)["round"] == 2
    assert set(w.annotations(round=0, purpose="measure")["clip_id"]) >= {c.id for c in later.split("test")}
    assert w.stage(0, "evaluate")[0] == "done"
    with pytest.raises(UserError, match="split anew between them"):
        compare(later, 1, 2)
    assert compare(later, 0, 2)["shared_texts"] == len(later.split("test"))
    assert w.as_of(1).clips().height == clips.height


@pytest.mark.slow
def test_stopped_in_the_middle_nothing_else_writes_and_the_same_command_finishes(
    context: RoundContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = context.workspace
    rewritten = Records._rewritten

    def killed(self: Records, shard: object, change: object) -> int:
        if getattr(killed, "called", False):
            raise KeyboardInterrupt
        killed.called = True  # type: ignore[attr-defined]
        return rewritten(self, shard, change)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "_rewritten", killed)
    command = ("resplit", "--yes", "--json", "--config", str(w.root), "--set", CUT[2], "--set", CUT[3])
    assert in_process(monkeypatch, capsys, *command)[0] == 130
    monkeypatch.setattr(Records, "_rewritten", rewritten)
    stopped = r"was being split anew when it was stopped\. Finish it: flywheel resplit"
    with pytest.raises(UserError, match=stopped), w.lock():
        pass
    code, out, _ = in_process(monkeypatch, capsys, *command)
    assert code == 0
    assert json.loads(out)["unseen"] == 0
    assert all(len(of) == 1 for of in sides(w).values())
    with w.lock():
        assert planned_resplit(w).moved == 0


@pytest.mark.slow
def test_a_round_that_is_under_way_is_finished_first(context: RoundContext) -> None:
    run_round(context, until="annotate")
    with context.workspace.lock(), pytest.raises(UserError, match="resplit: round 1 is under way"):
        planned_resplit(context.workspace)


@pytest.mark.slow
def test_who_joined_two_sides_is_taken_in_afterwards(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace(*CUT[2:])
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    families = {w.clips(s)["content_hash"][0] for s in ("train", "test")}
    known = w.videos.known(families)
    w.videos.note_joined({video.family for video in known.values()})
    with w.lock():
        context = RoundContext(w)
        plan = planned_resplit(w)
        resplit(context, plan)
    assert len({video.family for video in w.videos.known(families).values()}) == 1
    assert len({tuple(sides(w)[h]) for h in families}) == 1
    assert w.videos.joined() == []


def test_anchors_are_drawn_by_number_before_the_first_round(ingested: Workspace) -> None:
    """By the family's name alone, half of what is not tested at most, and never once a round began."""
    root = ingested.root

    def asking(number: int, *others: str) -> Workspace:
        return Workspace.open(root, [f"corpus.min_anchor_videos={number}", "corpus.anchor_share=0", *others])

    with asking(0, "corpus.test_share=0.01").lock() as w:
        resplit(RoundContext(w), planned_resplit(w))
    assert ingested.clips("anchor").is_empty()
    w = asking(2, "corpus.test_share=0.01")
    with w.lock():
        assert draw_missing_anchors(w) == 2
        assert draw_missing_anchors(w) == 0, "there are as many"
        assert planned_resplit(w).moved == 0, "a new split keeps them"
    drawn = set(w.clips("anchor")["content_hash"])
    assert sides(w) == {h: {"anchor" if h in drawn else "train"} for h in w.clips()["content_hash"]}
    w = asking(50, "corpus.test_share=0.01")
    with w.lock():
        assert draw_missing_anchors(w) == 3, "of six"
        names = sorted(w.videos.families(), key=split_place)
        w.videos.note_joined([names[0], names[-1]])
        draw_missing_anchors(w)
        assert len(w.videos.families()) == 5, "what a refused video joined is one by then"
        assert all(len(of) == 1 for of in sides(w).values())
        names = sorted(w.videos.families(), key=split_place)
        w.videos.unite(names[1:], names[-1])
        draw_missing_anchors(w)
        anchors = w.clips("anchor")["content_hash"].n_unique()
        assert anchors == w.videos.families()[names[0]] < 3, "the last family is learned from"
        w.begin_round(1, ("annotate", "gate"))
    w = asking(60, "corpus.test_share=0.01")
    with w.lock():
        assert draw_missing_anchors(w) == 0
