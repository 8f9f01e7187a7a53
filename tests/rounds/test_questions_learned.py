"""Questions with their answers among what a round learns: whose, of which clips, and as people leave them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from flywheel.benchmark.teaching import teach
from flywheel.core.config.sections import Pretrain
from flywheel.core.errors import UserError
from flywheel.core.types import HUMAN, Annotation
from flywheel.ingest import ingest
from flywheel.playground.timeline import _write_truth, long_video
from flywheel.rounds import RoundContext
from flywheel.rounds.export import export
from flywheel.rounds.mix import training_examples
from flywheel.rounds.names import check_names
from flywheel.rounds.publish import rewrite_reports
from flywheel.rounds.questions_taught import QuestionsTaught
from flywheel.rounds.takedown import take_down
from flywheel.rounds.texts import SourceChoice
from flywheel.store import Workspace
from tests.plugins import Command
from tests.rounds.test_rounds import correct

Make = Callable[..., Workspace]
_SMALL = (
    *(
        "models.main={engine: fake, options: {obeys: true}}",
        "annotate.also=[qa]",
        "finetune.num_steps=0",
        "evaluate.agreement_pairs=0",
    ),
    *("evaluate.resamples=100", "tracking.enabled=false", "pretrain.num_steps=3", "pretrain.batch_size=4"),
    *("pretrain.eval_share=0", "corpus.test_share=0.3", "pretrain.kinds={caption: 1, qa: 3}"),
)


def timelines(folder: Path, files: list[Path]) -> Path:
    """Timelines on record, with these videos in place of the rendered ones."""
    (folder / "videos").mkdir(parents=True)
    videos = [long_video(3, number) for number in range(len(files))]
    _write_truth(folder / "timelines.parquet", videos)
    for video, file in zip(videos, files, strict=True):
        shutil.copy(file, folder / "videos" / f"{video.name}.mp4")
    return folder


def pairs(*questions: str) -> str:
    return json.dumps({"pairs": [{"question": q, "answer": f"{q[:-1]} it is."} for q in questions]})


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_round_learns_to_answer(make_workspace: Make, corpus: Path, commandline: Command, tmp_path: Path) -> None:
    w = make_workspace(*_SMALL)
    here = ("--config", w.root / "flywheel.yaml", *(part for setting in _SMALL for part in ("--set", setting)))
    with w.lock():
        ingest(w, [str(corpus / "corpus")], limit=12)
    by_split = w.clips().sort("uri").group_by("split", maintain_order=True).agg("uri", "id").to_dicts()
    uris = {row["split"]: list(map(Path, row["uri"])) for row in by_split}
    taught = dict(zip(*(next(row[key][:2] for row in by_split if row["split"] == "train") for key in ("id", "uri"))))
    folder = timelines(tmp_path / "long", [*uris["train"][:2], uris["test"][0]])
    assert commandline("benchmark", "instruct", folder, "--teach", *here) == 0
    with w.lock():
        again = teach(w, folder)
    assert (again.conversations, again.known, again.left_out) == (0, 2, {"its clip is of the test split": 1})
    assert commandline("round", *here, "--until", "annotate") == 0
    context = RoundContext(w)
    for anchor in context.split("anchor"):
        correct(context, anchor.id, "what a person sees there")
    assert commandline("round", *here, "--until", "pretrain") == 0
    state, record = w.stage(1, "pretrain")
    assert (state, record["steps"]) == ("done", 3)
    rows = w.examples(round=1).to_dicts()
    texts = {row["id"]: row for row in w.annotations().to_dicts()}
    train = set(w.clips().filter(split="train")["id"])
    assert {row["source"] for row in rows} == {
        *("model:1:caption", "transcript:0:caption", "model:1:qa", "timeline:0:qa")
    }
    for row in rows:
        text = texts[row["annotation_id"]]
        assert (text["clip_id"], text["purpose"]) == (row["clip_id"], "learn")
        assert row["clip_id"] in train
        assert text["kind"] == row["source"].rpartition(":")[2]
    of_captions = sum(row["weight"] for row in rows if row["source"].endswith(":caption"))
    assert of_captions == pytest.approx(len(train) / 4)
    assert sum(row["weight"] for row in rows) == pytest.approx(len(train))
    assert {r["clip_id"] for r in rows if r["source"] == "timeline:0:qa"} == set(taught)
    # It is AdaTaiLr that learns them, each source a group of its own.
    assert not record["fell_back_to_mle"]
    assert {"noise_rate/model:1:qa", "noise_rate/timeline:0:qa"} <= record.keys()
    signals = w.records.read("noise_signals")
    assert len(set(signals["annotation_id"])) == signals.height > 0
    export(context, tmp_path / "out", "messages", splits=("train", "test"))
    gone = min(taught)
    with w.lock():
        taken = take_down(w, [gone], "asked for", rewrite=partial(rewrite_reports, context))
    assert taken.removed["examples"] == sum(row["clip_id"] == gone for row in rows) > 1
    assert not (tmp_path / "out").exists()
    assert gone not in set(w.annotations()["clip_id"]) | set(w.examples()["clip_id"])


@pytest.fixture
def asked(ingested: Workspace, make_workspace: Make) -> RoundContext:
    """A model's and given questions about the first two train clips."""
    w = ingested
    first, second, *_ = sorted(w.clips().filter(split="train")["id"])
    one = Annotation(
        id="",
        round=1,
        kind="caption",
        clip_id=first,
        generation_id="",
        source="model",
        text="A dog.",
        mean_logprob=-1.0,
    )
    qa = replace(one, kind="qa", text="")
    w.add_annotations([replace(one, id="c1"), replace(qa, id="q1", payload=pairs("Who?", "What?"))], 1)
    w.add_annotations([replace(one, id="c2", round=2), replace(qa, id="q2", round=2, payload=pairs("Where?"))], 2)
    given = replace(qa, round=0, source="timeline")
    w.add_annotations([replace(given, id="g", clip_id=second, payload=pairs("Why?", "How?", "When?"))], 0)
    return RoundContext(make_workspace("pretrain.kinds={caption: 1.0, qa: 1.0}"))


def learned(context: RoundContext, choice: SourceChoice) -> dict[str, list[tuple[str, float]]]:
    """Of each text that answers questions its turns with their shares."""
    found: dict[str, list[tuple[str, float]]] = {}
    for example in training_examples(context, context.texts(), choice, choice.round):
        if example.question:
            found.setdefault(example.annotation_id, []).append((example.question, example.share))
    return found


def test_questions_follow_the_choice_of_captions(asked: RoundContext) -> None:
    newest = SourceChoice(round=2, older=(0, 1), anchor_f1={}, num_anchors=0)
    given = [(q, pytest.approx(1 / 6)) for q in ("Why?", "How?", "When?")]
    assert learned(asked, newest) == {"q2": [("Where?", 0.5)], "g": given}
    assert learned(asked, replace(newest, round=1, older=(0,))) == {"q1": [("Who?", 0.25), ("What?", 0.25)], "g": given}
    assert learned(asked, replace(newest, round=0, older=())) == {"g": given}, (
        "a model that writes worse teaches nothing"
    )
    alone = QuestionsTaught(asked.workspace, asked.texts(), newest, Pretrain())
    assert alone.of(list(asked.clips)) == {}
    examples = list(training_examples(asked, asked.texts(), newest, 2))
    last = next(e for e in examples if e.question == "When?")
    assert (last.text, last.earlier) == ("When it is.", (("Why?", "Why it is."), ("How?", "How it is.")))
    assert (last.group, last.prompt_texts) == ("timeline:0:qa", {})


def test_people_decide_on_questions_too(asked: RoundContext) -> None:
    w = asked.workspace
    newest = SourceChoice(round=2, older=(0, 1), anchor_f1={}, num_anchors=0)
    first = next(t for t in w.annotations().iter_rows(named=True) if t["id"] == "q2")["clip_id"]
    correct(asked, first, "A cat.")
    edit = replace(
        w.correction_records()[0], id="e", annotation_id="g", payload=pairs("Whose?"), text="Whose? Whose it is."
    )
    w.add_corrections([edit, replace(edit, id="r", annotation_id="q2", verdict="reject", text="", payload="")])
    assert learned(asked, newest) == {"g": [("Whose?", 0.5)]}
    example = next(e for e in training_examples(asked, asked.texts(), newest, 2) if e.question)
    assert (example.group, example.weight) == (HUMAN, 4.0)
    assert asked.texts().corrections("g") == ("e",)


def test_kinds_that_can_not_be_learned_are_refused(asked: RoundContext, make_workspace: Make) -> None:
    with pytest.raises(UserError, match=r"pretrain\.kinds: 'tags' is unknown. There are caption, qa"):
        check_names(make_workspace("pretrain.kinds={caption: 1, tags: 1}").config, [])
    for wrong, words in (("{qa: 1}", "caption must be among them"), ("{caption: 1, qa: 0}", "a number over 0")):
        with pytest.raises(UserError, match=words):
            make_workspace(f"pretrain.kinds={wrong}")


def test_videos_that_are_no_train_clip_are_left_out(ingested: Workspace, corpus: Path, tmp_path: Path) -> None:
    w = ingested
    files = sorted(Path(uri) for uri in w.clips().filter(split="train")["uri"])
    other = sorted((corpus / "corpus").glob("*.mp4"))[-1]
    folder = timelines(tmp_path / "long", [files[0], files[1], other])
    held_out = tmp_path / "bench"
    held_out.mkdir()
    shutil.copy(files[1], held_out)
    with w.lock():
        made = teach(w, folder, held_out=held_out)
    assert (made.conversations, made.left_out) == (
        1,
        {"a benchmark asks about it": 1, "it is no clip of this workspace": 1},
    )
    assert teach(w, folder, held_out=held_out).known == 1
    shutil.copy(files[0], held_out)
    with pytest.raises(UserError, match="no video can be asked about"):
        teach(w, folder, held_out=held_out)
