"""A round's model is asked questions about videos that no round learns from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import check_before
from flywheel.rounds.publish import flatten, report_of
from flywheel.rounds.stages.questions import QuestionsResult, check, figures
from flywheel.store import Workspace

Make = Callable[..., Workspace]
_ORDER = "rounds.stages=[annotate, review, pretrain, finetune, evaluate, questions, gate]"
_SMALL = (
    *("annotate.engine=fake", "pretrain.num_steps=0", "finetune.num_steps=0", "evaluate.agreement_pairs=0"),
    *("evaluate.resamples=100", "tracking.enabled=false"),
)


@pytest.mark.slow
def test_a_round_is_asked_about_videos_that_none_learns_from(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace(*_SMALL)
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    clips = w.clips().select("uri", "split").sort("uri")
    held_out = [Path(uri) for uri, split in clips.iter_rows() if split == "test"][:2]
    learned = next(Path(uri) for uri, split in clips.iter_rows() if split == "train")
    (w.root / "bench" / "videos").mkdir(parents=True)
    rows = []
    for number, file in enumerate((*held_out, learned)):
        shutil.copy(file, w.root / "bench" / "videos" / f"{number}.mp4")
        rows.append({"id": f"q{number}", "video": f"{number}.mp4", "question": "Which?", "options": ["a", "b"]})
    rows.append({**rows[0], "id": "gone", "video": "gone.mp4"})
    base = {"answer": "A", "needs": ["frames"], "type": "av"}
    (w.root / "bench" / "items.jsonl").write_text("".join(json.dumps({**row, **base}) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"questions\.file: field required"):
        run_round(RoundContext(make_workspace(*_SMALL, _ORDER)))
    (w.root / "bench" / "learned.json").write_text(json.dumps([{**rows[2], **base}]))
    with pytest.raises(UserError, match="rounds learn from the videos of all 1 questions"):
        check_before(RoundContext(make_workspace(*_SMALL, _ORDER, "questions.file=bench/learned.json")))
    context = RoundContext(make_workspace(*_SMALL, _ORDER, "questions.file=bench"))
    assert run_round(context)["state"] == "done"
    state, record = w.stage(1, "questions")
    assert (state, record["asked"], record["learned"], record["rejected"]) == ("done", len(held_out), 1, 1)
    # The engine without a model names no option.
    assert (record["unparsed"], record["accuracy"]["value"], record["chance"]) == (len(held_out), 0.0, 0.5)
    assert flatten(report_of(context, 1))["questions/unparsed_share"] == 1.0


def test_what_can_not_be_asked_is_said_before_a_round(make_workspace: Make) -> None:
    def said(*settings: str) -> str:
        with pytest.raises(UserError) as error:
            check(RoundContext(make_workspace(*_SMALL, _ORDER, "questions.file=items.jsonl", *settings)))
        return str(error.value)

    root = make_workspace(*_SMALL).root
    assert "items.jsonl: there is no such file" in said()
    item = {"id": "q", "video": "v.mp4", "question": "Which?", "options": ["a", "b"], "answer": "A", "type": "av"}
    (root / "items.jsonl").write_text(json.dumps({**item, "needs": ["frames"]}) + "\n")
    assert said("questions.format=flywheal").startswith("questions.file, questions.format: ")
    assert said("questions.videos=none").startswith(f"questions.videos: {root / 'none'}: there is no such folder")
    (root / "videos").mkdir()
    assert "likelihood" in said("questions.by=likelihood")


def test_figures_are_of_what_was_asked() -> None:
    assert figures(QuestionsResult()) == {}
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    found = QuestionsResult(accuracy=estimate, by_type={"av": estimate}, chance=0.25, asked=8, unparsed=2)
    assert figures(found) == {
        "questions/accuracy": 0.5,
        "questions/accuracy_low": 0.25,
        "questions/accuracy_high": 0.75,
        "questions/accuracy/av": 0.5,
        "questions/chance": 0.25,
        "questions/asked": 8.0,
        "questions/rejected": 0.0,
        "questions/unparsed_share": 0.25,
    }
