"""Where people's choices decide, the outlook counts them and says how many may be needed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from flywheel.core.types import Preference, content_id
from flywheel.rounds.outlook import outlook_of
from flywheel.store import Workspace
from tests.rounds.test_facts import NEWER, OLDER, written


def test_choices_are_counted_where_they_decide(ingested: Workspace, make_workspace: Callable[..., Workspace]) -> None:
    written(ingested, {0: OLDER, 1: NEWER})
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [(f"a{n:02}", refiner) for n in range(3) for refiner in ("ann", "bob")]
    ingested.add_preferences(
        [
            Preference(
                id=f"{clip_id}{refiner}", clip_id=clip_id, first_id=content_id(0, "evaluation", clip_id),
                second_id=content_id(1, "evaluation", clip_id), chosen="second", refiner=refiner, at=at,
            )
            for clip_id, refiner in ids
        ]
    )  # fmt: skip
    ingested.set_stage(1, "gate", "done", {"verdict": "undecided", "against": 0})
    assert "choices" not in outlook_of(ingested).to_json(), "word overlap alone decides"
    found = outlook_of(make_workspace("gate.measures=[preference, token_f1]"))
    assert found.choices is not None
    assert (found.choices.older, found.choices.newer, found.choices.have, found.choices.need) == (0, 1, 3, 206)
    line = "gate: people chose between round 1's texts and the base model's on 3 anchor videos; 206 may be needed"
    assert line in found.lines()
    asked = [line for line in found.next if "/compare" in line or line.startswith("flywheel promote 1")]
    assert len(asked) == 2
