"""The round waits, by policy, for corrections of its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flywheel.core.errors import Waiting
from flywheel.core.progress import say
from flywheel.core.types import Correction, standing
from flywheel.rounds.answers import left_to_ask
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import names
from flywheel.rounds.stages._stage import Stage
from flywheel.store import Workspace
from human_refine.effort import effort
from human_refine.gold import gold_texts
from human_refine.people import active_corrections


@dataclass(frozen=True, kw_only=True)
class ReviewResult:
    """The number of corrections that stand, and how refiners agreed and how long they took (``effort``)."""

    num_corrections: int = 0
    effort: Mapping[str, Any] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        return {"num_corrections": self.num_corrections, **self.effort}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReviewResult:
        values = dict(record)
        return cls(num_corrections=values.pop("num_corrections", 0), effort=values)


def run(context: RoundContext, round: int) -> ReviewResult:
    """Wait for corrections of this round's texts. Raises Waiting while there are too few and any can be asked of."""
    have, wanted = num_corrections(context, round), context.config.review.wait_for
    if have < wanted:
        left = left_to_ask(context.workspace, round)
        if left:
            raise Waiting(round, have, wanted, left)
        say(f"review: {wanted} corrections were asked for (review.wait_for), and no more captions are left to review")
    return ReviewResult(num_corrections=have, effort=effort(context.workspace, round).to_json())


def num_corrections(context: RoundContext, round: int) -> int:
    """How many corrections of a round's captions stand; gold is not counted."""
    return corrections_by_round(context.workspace)[round]


def corrections_by_round(workspace: Workspace) -> Counter[int]:
    """How many corrections of each round's captions stand, all rounds in one look; gold is not counted."""
    gold = gold_texts(workspace)
    by_text: dict[str, list[Correction]] = {}
    for correction in active_corrections(workspace):
        by_text.setdefault(correction.annotation_id, []).append(correction)
    columns = ["id", "clip_id", "round", "kind", "purpose"]
    rows = workspace.records.rows("annotations", set(by_text), columns)
    captions = rows.filter(kind="caption", purpose="learn").select("id", "clip_id", "round")
    counts = Counter[int]()
    for annotation_id, clip_id, round in captions.iter_rows():
        if clip_id not in gold:
            counts[round] += len(standing(by_text[annotation_id]))
    return counts


def figures(result: ReviewResult) -> Mapping[str, float]:
    """Agreement, edits and time of the refiners."""
    return {f"review/{name}": float(result.effort[name]) for name in names("review") if name in result.effort}


STAGE = Stage(run=run, result=ReviewResult, figures=figures)
