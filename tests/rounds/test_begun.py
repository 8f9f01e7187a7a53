"""Killed and resumed, a pretraining learns the rows of its start, whatever people said meanwhile; or it begins anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.core.types import CAPTION, HUMAN, Annotation, Correction, Example
from flywheel.rounds import RoundContext
from flywheel.rounds.stages import _begun
from flywheel.rounds.takedown import _forget_unfinished
from flywheel.store import Workspace
from trainers import checkpoints
from trainers.examples import digest_of


class Started:
    """A workspace whose clips have a text each, and the folder of a pretraining of its first round."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        clips = RoundContext(workspace).split("train")
        self.texts = [
            Annotation(
                id=f"a{n}",
                clip_id=clip.id,
                round=1,
                kind=CAPTION,
                text=f"text {n}",
                source="model",
                generation_id="g",
                mean_logprob=-1.0,
            )
            for n, clip in enumerate(clips)
        ]
        workspace.add_annotations(self.texts, 1)

    def begin(self) -> _begun.Begun:
        return _begun.begin(self.folder, RoundContext(self.workspace), 1)

    def save(self, step: int) -> None:
        (self.folder / f"checkpoint-{step}").mkdir()
        (self.folder / f"checkpoint-{step}" / "complete").touch()

    def correct(self, text: Annotation, words: str) -> None:
        values = {"verdict": "edit", "refiner": "r", "at": datetime(2026, 1, 1, tzinfo=UTC)}
        self.workspace.add_corrections(
            [Correction(id=f"c {text.id}", annotation_id=text.id, clip_id=text.clip_id, text=words, **values)]  # type: ignore[arg-type]
        )


@pytest.fixture
def started(ingested: Workspace, tmp_path: Path) -> Started:
    return Started(ingested, tmp_path / "model.work")


def rows(begun: _begun.Begun) -> dict[str, list[Example]]:
    return {use: list(examples) for use, examples in begun.examples.items()}


def test_with_a_checkpoint_the_rows_of_the_start_are_learned(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    first = started.begin()
    before, learned = rows(first), list(first.learned_rows(()))
    assert len({example.clip_id for example in before["kept"]}) == len(started.texts)
    started.correct(started.texts[0], "a person wrote")
    assert [e.group for e in started.begin().examples["kept"]].count(HUMAN) == 1, "nothing was learned yet: newer texts"
    first = started.begin()
    before, learned = rows(first), list(first.learned_rows(()))
    started.save(3)
    started.correct(started.texts[1], "another one too")
    again = started.begin()
    assert "pretrain: goes on from step 3 with the texts of its start" in capsys.readouterr().err
    assert rows(again) == before
    assert again.choice == first.choice
    assert list(again.learned_rows(())) == learned
    assert sum(bool(row["corrections"]) for row in learned) == 1
    assert len(list(again.learned_rows({started.texts[0].clip_id}))) == len(learned) - 1


def test_it_begins_anew_where_a_row_must_not_be_learned_any_more(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    started.begin()
    for step, change in ((1, "setting"), (2, "clip"), (3, "note")):
        started.save(step)
        if change == "setting":
            config = started.workspace.config
            plan = config.pretrain.model_copy(update={"seed": 7})
            started.workspace.config = config.model_copy(update={"pretrain": plan})
            why = "pretrain.seed changed"
        elif change == "clip":
            begun = started.begin()
            gone = replace(begun.examples["kept"][0], clip_id="taken down")
            _begun._table(started.folder, "kept", [gone])
            why = "clip taken down is no longer one to learn from"
        else:
            (started.folder / "begun.json").unlink()
            why = "it was begun by another version"
        capsys.readouterr()
        begun = started.begin()
        assert f"begins anew instead of going on from step {step}: {why}." in capsys.readouterr().err
        assert checkpoints.last_checkpoint(started.folder) is None
        assert {example.clip_id for example in begun.examples["kept"]} == {text.clip_id for text in started.texts}


def test_a_takedown_takes_what_an_unfinished_training_keeps(started: Started) -> None:
    started.folder = started.workspace.root / "models" / "round=001" / "model.work"
    started.begin()
    _forget_unfinished(started.workspace, {"another clip"})
    assert (started.folder / "kept.arrow").exists()
    _forget_unfinished(started.workspace, {started.texts[2].clip_id})
    assert not started.folder.exists()


def test_a_training_of_other_rows_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = Example(clip_id="1", text="t", prompt_texts={"previous": None})
    digests = [digest_of([example]), digest_of([replace(example, weight=0.5)])]
    for digest, saved in ((digests[0], False), (digests[0], True), (digests[1], True), (digests[1], False)):
        if saved:
            (tmp_path / "checkpoint-4").mkdir(exist_ok=True)
            (tmp_path / "checkpoint-4" / "complete").touch()
        checkpoints.same_rows(tmp_path, digest, "finetune")
        goes_on = saved and digest == digests[0]
        assert (checkpoints.last_checkpoint(tmp_path) is not None) == goes_on
    line = "finetune: begins anew, since its texts, settings or base are others than those of its 4 steps so far.\n"
    assert capsys.readouterr().err == line
