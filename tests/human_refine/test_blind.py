"""What people write before they see the model's text: of anchors as often as is asked, and known for it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources

import pytest

from flywheel.core.types import WRITTEN_BLIND, Annotation, Correction
from flywheel.rounds.head_start import head_start
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from human_refine.items import items_with_ids
from human_refine.service import ReviewService
from tests.store.test_view import clip


@pytest.fixture
def made(make_workspace: Callable[..., Workspace]) -> Workspace:
    """Twelve anchors with captions, and train clips; half of the anchors' were written blind, in other words."""
    w = make_workspace("review.blind_anchors=1")
    w.add_clips([clip(n, "anchor" if n < 12 else "train") for n in range(16)])
    w.add_annotations(
        [
            Annotation(
                id=f"a{n}",
                round=1,
                kind="caption",
                clip_id=f"c{n}",
                generation_id="",
                source="model",
                text="a red ball rolls",
                mean_logprob=-1.0,
            )
            for n in range(16)
        ],
        1,
    )
    return w


def test_anchors_are_written_blind_and_others_are_not(made: Workspace) -> None:
    service = ReviewService(made)
    shown = {i: service.shown(item, "ann") for i, item in items_with_ids(made, ["a0", "a5", "a12", "a13"]).items()}
    assert {i: item["blind"] for i, item in shown.items()} == {"a0": True, "a5": True, "a12": False, "a13": False}
    script = (resources.files("human_refine") / "static" / "saving.js").read_text()
    assert f'"{WRITTEN_BLIND}"' in script, "the page gives the reason by which it is known"


def test_what_showing_a_text_does_is_measured(made: Workspace) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made.add_corrections(
        [
            Correction(
                id=f"k{n}",
                annotation_id=f"a{n}",
                clip_id=f"c{n}",
                verdict="edit",
                text="some crimson ball is rolling" if n % 2 else "a red ball rolls away",
                reason=WRITTEN_BLIND if n % 2 else "",
                refiner="ann",
                at=at,
            )
            for n in range(12)
        ]
    )
    shown = CurrentTexts(made).shown_anchors()
    assert sorted(video for video, _, blind in shown if blind) == sorted(f"h{n}" for n in range(1, 12, 2))
    start = head_start(shown)
    assert start is not None
    assert start.value == pytest.approx(8 / 9 - 2 / 9)
    assert start.n == 12
    assert head_start(shown[:9]) is None, "too few of one kind"
    spread = head_start([(str(n), n / 20, bool(n % 2)) for n in range(20)])
    assert spread is not None
    assert spread.low < spread.value < spread.high
