"""A round's captions by clip: what an index gives is what a pass over the round's rows gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from flywheel.core.types import CAPTION, LEARN, MEASURE, Annotation
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace, caption_index
from flywheel.store.caption_index import CaptionIndexes

Make = Callable[..., Workspace]


def caption(number: int, round: int) -> Annotation:
    return Annotation(
        id=f"{round}-{number}",
        round=round,
        kind=CAPTION,
        clip_id=f"clip-{number}",
        generation_id="",
        source="model",
        text=f"text {number} of round {round}",
        mean_logprob=-0.5,
    )


@pytest.fixture
def filled(make_workspace: Make) -> Workspace:
    """Two rounds of captions in several shards, with texts of another kind and purpose among them."""
    workspace = make_workspace()
    with workspace.lock():
        for round, numbers in ((1, range(60)), (2, range(20, 90))):
            for start in range(numbers.start, numbers.stop, 16):
                some = [caption(n, round) for n in range(start, min(start + 16, numbers.stop))]
                measured = [replace(a, id=a.id + "m", text="measured", purpose=MEASURE) for a in some[:5]]
                timed = [replace(a, id=a.id + "t", text="timed", kind="dense_caption") for a in some[5:9]]
                workspace.add_annotations([*measured, *some, *timed], round)
    return workspace


@pytest.mark.parametrize("few", [0, 10_000])
def test_it_finds_what_a_pass_over_the_rows_finds(filled: Workspace, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(caption_index, "_FEW", few)
    captions = CaptionIndexes(filled)
    asked = [f"clip-{n}" for n in random.Random(0).sample(range(-5, 95), 80)]
    for round in (1, 2):
        rows = filled.annotations(round=round, kind=CAPTION, purpose=LEARN).iter_rows(named=True)
        wanted = {row["clip_id"]: row["text"] for row in rows if row["clip_id"] in asked}
        assert {clip: text.text for clip, text in captions.of(round, asked).items()} == wanted
    assert captions.of(3, asked) == {}


def test_what_is_written_later_is_found(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_index, "_FEW", 0)
    captions = CaptionIndexes(filled)
    assert captions.of(1, ["clip-70"]) == {}
    with filled.lock():
        filled.add_annotations([caption(70, 1)], 1)
    assert captions.of(1, ["clip-70"])["clip-70"] == caption(70, 1)


def test_the_newest_text_before_a_round_counts(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_index, "_FEW", 0)
    before = CurrentTexts(filled).before(3, [f"clip-{n}" for n in (0, 30, 80, 95)])
    assert before == {
        "clip-0": "text 0 of round 1",
        "clip-30": "text 30 of round 2",
        "clip-80": "text 80 of round 2",
    }


def test_no_more_indexes_are_held_than_said(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_index, "_FEW", 0)
    monkeypatch.setattr(caption_index, "_KEPT", 1)
    captions = CaptionIndexes(filled)
    for round in (1, 2, 1):
        assert captions.of(round, ["clip-30"])["clip-30"].round == round
    assert len(captions._indexes) == 1
