"""The round as a state machine, its texts as a view, its gate, its report: real store, tiny steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql

from flywheel.core.config import Pretrain
from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, HUMAN, Correction, Example, content_id
from flywheel.demo import Oracle
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.held_out import Videos, _whole_videos, held_out_clips
from flywheel.rounds.mix import older_rounds, training_examples
from flywheel.rounds.progress import current_round
from flywheel.rounds.publish import flatten, report_of
from flywheel.rounds.report import write_report
from flywheel.rounds.stages import annotate, finetune, pretrain
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.status import history_of, status_of, uses_of
from flywheel.store import Workspace
from flywheel.store import schema as db

Make = Callable[..., Workspace]


def context_of(make: Make, corpus: Path, *overrides: str) -> RoundContext:
    w = make(
        "annotate.engine=fake",
        "pretrain.num_steps=0",
        "finetune.num_steps=0",
        "evaluate.agreement_pairs=0",
        "evaluate.resamples=100",
        "gate.min_anchors=2",
        *overrides,
    )
    if w.clips().is_empty():
        with w.lock():
            ingest(w, [str(corpus / "corpus")])
    return RoundContext(w)


def correct(context: RoundContext, clip_id: str, text: str, round: int = 1, verdict: str = "edit") -> None:
    annotation = CurrentTexts(context.workspace).captions(round)[clip_id]
    context.workspace.add_corrections(
        [
            Correction(
                id=content_id(annotation.id, text, verdict),
                annotation_id=annotation.id,
                clip_id=clip_id,
                verdict=verdict,
                text=text,  # type: ignore[arg-type]
                refiner="r",
                at=datetime(2026, 1, round, tzinfo=UTC),
            )
        ]
    )


@pytest.mark.slow
def test_a_loss_and_an_optimizer_that_do_not_work_are_said_before_anything_is_done(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(
        make_workspace,
        corpus,
        "loss.name=tailr",
        "loss.arguments.gamma=2",
        "models.main.precision=bf16",
        "pretrain.optimizer=adamw",
    )
    with pytest.raises(UserError, match=r"loss.arguments: tailr: need 0 <= gamma <= 1, got 2"):
        run_round(context)
    monkeypatch.setattr(context, "loss", lambda: None)
    with pytest.raises(UserError, match=r"pretrain.optimizer: adamw with models.main.precision bf16: refused"):
        run_round(context)
    assert context.workspace.annotations(round=1).is_empty()


@pytest.mark.slow
def test_a_round_waits_for_no_more_captions_than_there_are(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus, "review.wait_for=500")
    waits = run_round(context, until="review")
    captions = CurrentTexts(context.workspace).captions(1)
    assert (waits["state"], waits["waiting"]) == ("waiting", {"round": 1, "have": 0, "wanted": 500})
    assert f"Left to review: {len(captions)} of its captions. The round goes on when these are done" in waits["message"]
    first, *others = captions
    for clip_id in others:
        correct(context, clip_id, "A ball.")
    assert "Left to review: 1 of its captions" in run_round(context, until="review")["message"]
    correct(context, first, "", verdict="reject")
    assert run_round(context, until="review")["state"] == "stopped"
    assert context.workspace.stage(1, "review")[1]["num_corrections"] == len(captions)


@pytest.mark.slow
def test_a_round_goes_through_its_stages_and_the_next_begins(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus)
    w = context.workspace
    assert run_round(context, until="annotate")["state"] == "stopped"
    assert current_round(context.workspace) == 1
    result = run_round(context)
    assert (result["round"], result["state"], result["verdict"]) == (1, "done", "undecided")
    assert (result["code"], result["waiting"]) == ("gate", None)
    assert "can't tell yet: 0 of at least 2 anchor videos have a corrected caption" in result["message"]
    assert (w.champion(), current_round(context.workspace)) == (0, 2), "nothing is promoted that nobody tested"
    assert status_of(w).round == 2
    test = {c.id for c in context.split("test")}
    assert set(w.annotations(round=1, purpose="measure")["clip_id"]) == test
    assert not set(w.annotations(round=1, kind=CAPTION)["clip_id"]) & test, (
        "test clips are never annotated for training"
    )


@pytest.mark.slow
def test_review_waits_and_goes_on(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus, "review.wait_for=1")
    result = run_round(context)
    assert (result["state"], result["stage"], result["code"]) == ("waiting", "review", "waiting")
    assert result["waiting"] == {"round": 1, "have": 0, "wanted": 1}
    found = status_of(context.workspace)
    assert (found.stage, found.state) == ("review", "waiting")
    assert "waits for 1 more" in found.message
    correct(context, context.split("train")[0].id, "a person's text")
    assert run_round(context)["state"] == "done"


@pytest.mark.slow
def test_what_people_said_comes_first(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus)
    run_round(context, until="annotate")
    edited, rejected, *rest = context.split("train")
    correct(context, edited.id, "a person's text")
    correct(context, rejected.id, "", verdict="reject")
    examples = {
        e.clip_id: e
        for e in training_examples(
            context, CurrentTexts(context.workspace), SourceChoice(round=1, anchor_f1={}, num_anchors=0), 1
        )
    }
    assert (examples[edited.id].text, examples[edited.id].group) == ("a person's text", "human")
    if rejected.transcript:
        assert examples[rejected.id].group == "transcript:0:caption", (
            "a rejected text is not learned; the one before is"
        )
    else:
        assert rejected.id not in examples
    assert all(examples[c.id].group == "model:1:caption" for c in rest)
    assert set(examples) <= {c.id for c in context.split("train")}, "anchors and test clips are never trained on"


@pytest.mark.slow
def test_older_texts_stay_in_the_mix_and_peoples_in_every_one(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus)
    w = context.workspace
    run_round(context, until="annotate")
    edited, rejected, same, *rest = context.split("train")
    correct(context, edited.id, "a person's text")
    correct(context, rejected.id, "", verdict="reject")
    ones = CurrentTexts(w).captions(1)
    for clip in context.split("train"):
        text = ones[clip.id].text if clip.id == same.id else "What the second round says of it."
        w.add_annotations([replace(ones[clip.id], id=content_id("two", clip.id), round=2, text=text)], 2)

    def mix() -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for e in training_examples(context, CurrentTexts(w), CurrentTexts(w).choose(2, 2, "best"), 2):
            found.setdefault(e.clip_id, {})[e.group] = e.share
        return found

    def newest(clip_id: str) -> str:
        return f"{ones[clip_id].source}:2:caption"

    have = mix()
    assert all(sum(shares.values()) == pytest.approx(1) for shares in have.values())
    assert have[edited.id] == {"human": 1.0}
    assert "model:1:caption" not in have[rejected.id], "what was rejected never comes back"
    assert "model:1:caption" not in have[same.id], "the same words are one text"
    given = {c.id for c in context.split("train") if c.transcript}
    for clip in rest:
        older = (
            {"model:1:caption": 0.125, "transcript:0:caption": 0.125} if clip.id in given else {"model:1:caption": 0.25}
        )
        assert have[clip.id] == pytest.approx({newest(clip.id): 0.75, **older})
    context.config = context.config.model_copy(
        update={"pretrain": context.config.pretrain.model_copy(update={"mix": "replace"})}
    )
    assert mix() == {edited.id: {"human": 1.0}, **{c: {newest(c): 1.0} for c in have if c != edited.id}}


@pytest.mark.parametrize(
    ("older", "most", "kept"),
    [
        ((0, 1, 2), 4, (0, 1, 2)),
        ((0, 1, 2, 3, 4), 4, (0, 2, 3, 4)),
        ((1, 2, 3, 4, 5), 4, (2, 3, 4, 5)),
        ((0, 5, 6), 1, (0,)),
        ((5, 6), 1, (6,)),
        ((), 4, ()),
    ],
)
def test_so_many_older_sources_and_no_more(older: tuple[int, ...], most: int, kept: tuple[int, ...]) -> None:
    choice = SourceChoice(round=9, older=older, anchor_f1={}, num_anchors=0)
    assert older_rounds(choice, Pretrain(older_rounds=most)) == kept
    assert older_rounds(choice, Pretrain(mix="replace")) == ()


@pytest.mark.slow
def test_older_texts_that_anchors_find_worse_leave_the_mix(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus, "corpus.anchor_share=0.5")
    w = context.workspace
    run_round(context, until="annotate")
    ones, anchors = CurrentTexts(w).captions(1), context.split("anchor")
    assert len(anchors) >= 8
    for round, wrong in ((2, 1), (3, 0)):
        said = dict.fromkeys(ones, "what a person sees there") | {c.id: "something else" for c in anchors[:wrong]}
        w.add_annotations(
            [replace(a, id=content_id(round, c), round=round, text=said[c]) for c, a in ones.items()], round
        )
    assert CurrentTexts(w).choose(3, 8, "best") == SourceChoice(
        round=3, older=(0, 1, 2), anchor_f1={}, num_anchors=0
    ), "nobody knows of any"
    for clip in anchors:
        correct(context, clip.id, "what a person sees there")
    found = CurrentTexts(w).choose(3, 8, "best")
    assert (found.round, found.older) == (3, (2,)), "the base's words are far off, round 2 has one of many wrong"


@pytest.mark.slow
def test_what_was_learned_from_which_correction_is_on_record_both_ways(make_workspace: Make, corpus: Path) -> None:
    """With a real, two-step training: what people said, weighed by how far they agree, and what they rejected."""
    context = context_of(
        make_workspace,
        corpus,
        "pretrain.num_steps=2",
        "finetune.num_steps=1",
        "finetune.min_corrections=1",
        "loss.name=mle",
    )
    w = context.workspace
    run_round(context, until="annotate")
    edited, rejected, *_ = context.split("train")
    correct(context, edited.id, "a person text")
    one = w.correction_records()[0]
    w.add_corrections([replace(one, id="two", refiner="s", text="a person wrote", at=datetime(2025, 1, 1, tzinfo=UTC))])
    correct(context, rejected.id, "", verdict="reject")
    run_round(context)
    note = json.loads((w.model_folder(1) / "model" / "training.json").read_text())
    assert {"loss", "eval_loss", "optimizer", "busy_share", "peak_gib"} <= note.keys()
    assert note["optimizer"] == "adamw"
    assert 0 <= note["busy_share"] <= 1
    assert "busy_share" not in w.stage(1, "pretrain")[1], "a result is the same for the same seed"
    rows = {(r["stage"], r["clip_id"], r["use"]): r for r in w.examples(round=1).iter_rows(named=True)}
    learned = rows["pretrain", edited.id, "learned"]
    assert sorted(learned["corrections"]) == sorted([one.id, "two"])
    assert learned["weight"] == pytest.approx(4 * 0.75), "two of three words are the same in both: (1 + 2 / 4) / 2"
    assert rows["finetune", edited.id, "learned"]["weight"] == pytest.approx(0.75)
    no = rows["finetune", rejected.id, "rejected"]
    assert (no["text_hash"], len(no["corrections"])) == (content_id(CurrentTexts(w).captions(1)[rejected.id].text), 1)
    uses = {(u.id, u.stage, u.round, u.use) for u in uses_of(w, 1)}
    assert {(one.id, "pretrain", 1, "learned"), ("two", "finetune", 1, "learned")} <= uses
    assert (no["corrections"][0], "pretrain", 1, "rejected") in uses
    assert "M1 learned it in finetune" in str(history_of(w, edited.id))
    assert set(w.examples()["id"]) == set(w.examples()["id"].unique())
    # Killed between weights and records, the round makes up for it from what lies beside the weights.
    before = w.examples().sort("id")
    with w.database.transaction() as connection:
        for table in (db.shards, db.keys):
            connection.execute(sql.delete(table).where(table.c.kind == "examples"))
    w.set_stage(1, "finetune", "running", {})
    pretrain.run(context, 1)
    finetune.run(context, 1)
    assert w.examples().sort("id").equals(before)


@pytest.mark.slow
def test_anchors_choose_the_source(make_workspace: Make, corpus: Path) -> None:
    """A model that writes worse than what came with the videos does not replace it."""
    context = context_of(make_workspace, corpus, "corpus.anchor_share=0.5")
    run_round(context, until="annotate")
    oracle = Oracle(corpus / "oracle.parquet")
    anchors = context.split("anchor")
    assert CurrentTexts(context.workspace).choose(1, 2, "best").round == 1, (
        "without corrected anchors the newest is taken"
    )
    for clip in anchors:
        correct(context, clip.id, oracle.text(clip.uri))
    choice = CurrentTexts(context.workspace).choose(1, 2, "best")
    assert choice.round == 0
    assert choice.anchor_f1[0] > choice.anchor_f1[1]
    assert choice.num_anchors == len(anchors)
    assert CurrentTexts(context.workspace).choose(1, 2, "newest").round == 1
    assert CurrentTexts(context.workspace).choose(1, 1000, "best").round == 1


@pytest.mark.slow
def test_report_holds_everything_in_itself(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus)
    context.workspace.add_rejected(round=0, stage="ingest", uri="/x/<b>.mp4", clip_id="", reason="holds <script> only")
    run_round(context)
    reports = [report_of(context, r) for r in (0, 1)]
    folder = write_report(context, reports)
    page = (folder / "report.html").read_text()
    assert page.count("<article>") == 12
    assert page.count("data:image/jpeg;base64,") == 12
    assert "<script>" not in page
    assert "holds &lt;script&gt; only" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    said = json.loads((folder / "report.json").read_text())
    assert said["quantity"]["annotations"] == len(context.split("test"))
    assert {"quantity/tokens", "diversity/distinct_1", "diversity/distinct_1_low", "num_corrections"} <= set(
        flatten(reports[-1])
    )


@pytest.mark.slow
def test_interrupted_stage_time_adds_up(make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(make_workspace, corpus)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(annotate, "STAGE", replace(annotate.STAGE, run=stop))
        with pytest.raises(KeyboardInterrupt):
            run_round(context)
    assert context.workspace.stage(1, "annotate")[0] == "running"
    assert current_round(context.workspace) == 1
    assert run_round(context)["state"] == "done"


@pytest.mark.slow
def test_the_loop_turns_without_an_oracle(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """Videos and transcripts are all it needs;
    and while it turns, no file named oracle is opened by Python or by polars."""
    import shutil
    import sys

    shutil.copytree(corpus / "corpus", tmp_path / "elsewhere" / "corpus")
    assert not list((tmp_path / "elsewhere").rglob("*oracle*"))
    opened: list[str] = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    w = make_workspace(
        "annotate.engine=fake",
        "pretrain.num_steps=0",
        "finetune.num_steps=0",
        "evaluate.agreement_pairs=0",
        "evaluate.resamples=100",
    )
    with w.lock():
        ingest(w, [str(tmp_path / "elsewhere" / "corpus")])
    assert run_round(RoundContext(w))["state"] == "done"
    assert any(name.endswith(".yaml") for name in opened), "the hook listens"
    assert not [name for name in opened if "oracle" in name]


def videos_of(names: dict[str, str]) -> Videos:
    """A number for each clip's video, by the names of the videos of clips."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    return lambda clip_ids: np.array([numbers[names[clip_id]] for clip_id in clip_ids], dtype=np.int64)


def one_by_one(machine: int, source: str = "source:1:caption") -> list[Example]:
    return [Example(clip_id=str(i), text="t", group=source) for i in range(machine)]


@pytest.mark.parametrize(("machine", "held"), [(4, 0), (40, 6), (400, 60), (800, 64), (4000, 200), (40_000, 512)])
def test_held_out_texts_are_enough_and_not_too_many(machine: int, held: int) -> None:
    examples = one_by_one(machine)
    people = [Example(clip_id=f"p{i}", text="t", group=HUMAN) for i in range(9)]
    videos = videos_of({e.clip_id: f"video of {e.clip_id}" for e in (*people, *examples)})
    out = held_out_clips([*people, *examples], 0.05, videos, seed=0)
    assert len(out) == held
    assert out <= {e.clip_id for e in examples}, "people's texts are all learned"
    assert not held_out_clips(examples, 0.0, videos, seed=0)
    if held > 10:
        assert out != held_out_clips([*people, *examples], 0.05, videos, seed=1)
        mean = np.mean([int(clip_id) for clip_id in out])
        assert abs(mean / machine - 0.5) < 4 * (12 * held) ** -0.5, "from all over the corpus"


def test_a_correction_and_new_clips_leave_the_draw_as_it_was() -> None:
    examples = one_by_one(400)
    videos = videos_of({e.clip_id: f"video {int(e.clip_id) // 2}" for e in one_by_one(500)})
    before = held_out_clips(examples, 0.05, videos, seed=0)
    judged = next(e for e in examples if e.clip_id not in before)
    after = held_out_clips([replace(e, group=HUMAN) if e == judged else e for e in examples], 0.05, videos, seed=0)
    assert after == before
    more = held_out_clips(one_by_one(404), 0.05, videos, seed=0)
    assert len(more - before) <= 4


def test_whole_videos_are_drawn_without_a_pass_for_each() -> None:
    order, videos = np.random.default_rng(0).permutation(300_000), np.arange(300_000) // 3
    began = time.process_time()
    rows = _whole_videos(order, videos, 30_000)
    assert time.process_time() - began < 1  # With a pass over all rows for each video it took 2.2 s.
    assert rows[:3] == np.flatnonzero(videos == videos[order[0]]).tolist()
    assert len(rows) == len(set(rows)) == 30_000


@pytest.mark.parametrize(("cuts", "most"), [(4, 63), (7, 66), (400, 60)])
def test_held_out_texts_are_of_whole_videos(cuts: int, most: int) -> None:
    examples = one_by_one(400)
    people = [Example(clip_id=f"p{i}", text="t", group=HUMAN) for i in range(9)]
    ids = [e.clip_id for e in (*people, *examples)]
    of = {i: f"video {n // cuts}" for n, i in enumerate(ids)}
    videos = videos_of(of)
    out = held_out_clips([*people, *examples], 0.05, videos, seed=0)
    assert 60 <= len(out) <= most
    if cuts < 400:
        assert not {of[i] for i in out} & {of[i] for i in ids if i not in out}
    else:
        assert of["p0"] == of["0"], "one video is too large, and people spoke of it: clips, one by one"


def test_one_by_one_clips_of_videos_that_people_spoke_of_come_last() -> None:
    """Two videos, both too large: people gave texts of the first, to two questions of clips with a caption too."""
    examples = one_by_one(400)
    for i in range(5):
        examples.insert(2 * i + 1, Example(clip_id=str(i), text="t", question="Why?", group=HUMAN))
    few = videos_of({e.clip_id: str(int(e.clip_id) < 200) for e in examples})
    assert min(map(int, held_out_clips(examples, 0.05, few, seed=0))) >= 200
    nearly_all = videos_of({e.clip_id: str(int(e.clip_id) < 390) for e in examples})
    out = set(map(int, held_out_clips(examples, 0.05, nearly_all, seed=0)))
    assert len(out) == 60
    assert set(range(390, 400)) < out
    assert min(out) >= 5, "clips with a person's text come last of all"
