"""What became of a corpus's sounds: counts, actions, rewards before and after, and all that is known of one clip."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.curation.repair.heard import said_by_people
from flywheel.curation.repair.repairing import RepairRun
from flywheel.store.clip_index import ClipIndex
from flywheel.store.view import View

_COLUMNS = ["clip_id", "outcome", "plan", "before", "after", "seconds"]


@dataclass(frozen=True, kw_only=True)
class RepairSummary:
    """How clips with sound stand: left alone (those that were not looked at too), repaired, refused, undone.

    ``actions`` counts the edits of those that stand; ``before`` and ``after`` are their mean rewards. ``looked_at``,
    ``rejected``, ``no_plans`` (what a planner wrote and was none), ``costs`` of the model that plans, and
    ``seconds_now`` are of the last run, ``seconds`` of all. ``people`` is what their blind choices say
    (:func:`flywheel.curation.repair.heard.said_by_people`), empty where nobody chose.
    """

    left_alone: int = 0
    repaired: int = 0
    refused: int = 0
    undone: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    looked_at: int = 0
    rejected: int = 0
    seconds: float = 0.0
    seconds_now: float = 0.0
    no_plans: int = 0
    costs: dict[str, float] = field(default_factory=dict)
    people: dict[str, Any] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """All of them."""
        return self.left_alone + self.repaired + self.refused + self.undone


def summary(view: View, run: RepairRun, index: ClipIndex) -> RepairSummary:
    """How the clips of an index stand after a run; those of removed sources, which it lacks, are not counted."""
    facts = index.facts("id", "has_audio")
    audible = facts.filter("has_audio")["id"].cast(pl.String).hash(0)
    last, seconds = pl.DataFrame(schema={"clip": pl.UInt64, "outcome": pl.String}), 0.0
    for frame in view.records.batches("sound_versions", columns=["clip_id", "outcome", "seconds"]):
        seconds += float(frame["seconds"].sum())
        some = frame.select(clip=pl.col("clip_id").hash(0), outcome="outcome").filter(_among("clip", audible))
        last = pl.concat([last, some]).unique("clip", keep="last", maintain_order=True)
    counts = Counter(dict(last["outcome"].value_counts().iter_rows()))
    others = counts["repaired"] + counts["refused"] + counts["undone"]
    actions, before, after = _of_standing(view, audible) if counts["repaired"] else ({}, {}, {})
    return RepairSummary(
        left_alone=len(audible) - others,
        repaired=counts["repaired"],
        refused=counts["refused"],
        undone=counts["undone"],
        actions=actions,
        before=before,
        after=after,
        looked_at=run.looked_at,
        rejected=run.rejected,
        seconds=seconds,
        seconds_now=run.seconds,
        no_plans=run.no_plans,
        costs=dict(run.costs),
        people=said_by_people(view),
    )


def _among(column: str, hashes: pl.Series) -> pl.Expr:
    return pl.col(column).is_in(hashes.implode())


def _of_standing(view: View, audible: pl.Series) -> tuple[dict[str, int], dict[str, float], dict[str, float]]:
    """Edits by action, and mean rewards before and after, of the sounds that stand."""
    actions, sums, count = Counter[str](), (Counter[str](), Counter[str]()), 0
    standing = view.standing_sounds().select("id", clip=pl.col("clip_id").hash(0)).filter(_among("clip", audible))
    for part in standing.iter_slices(4096):
        rows = view.records.rows("sound_versions", part["id"], ["plan", "before", "after"])
        for plan, *rewards in rows.iter_rows():
            actions.update(edit["action"] for edit in json.loads(plan)["edits"])
            for total, text in zip(sums, rewards, strict=True):
                for name, value in json.loads(text).items():
                    total[name] += value
        count += rows.height
    before, after = ({name: value / max(count, 1) for name, value in total.items()} for total in sums)
    return dict(sorted(actions.items())), before, after


def headline(found: Mapping[str, Any]) -> str:
    """One line about a summary's record."""
    total = sum(found[name] for name in ("left_alone", "repaired", "refused", "undone"))
    share = f" ({found['left_alone'] / total:.1%})" if total else ""
    counts = f"{found['repaired']} repaired, {found['refused']} refused"
    text = f"{found['left_alone']}{share} clips' sounds left alone, {counts}"
    if found["undone"]:
        text += f", {found['undone']} undone by people"
    if found["actions"]:
        text += "; " + ", ".join(f"{count} {name}" for name, count in found["actions"].items())
    if found["no_plans"]:
        text += f"; {found['no_plans']} replies were no plans"
    if found["rejected"]:
        text += f"; {found['rejected']} can't be read"
    if found["people"]:
        text += f"; {_said(found['people'])}"
    return text


def _said(people: Mapping[str, Any]) -> str:
    """What people's choices came to, in words."""
    rate = people["edited_better"]
    words = f"people prefer the edited sound of {rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] of "
    words += f"{rate['n']} videos"
    return words if people["margin"] is None else f"{words}, surely at least half from a rise of {people['margin']:.2f}"


def explain(view: View, clip_id: str) -> list[dict[str, Any]]:
    """All that was done and tried on a clip's sound, oldest first. Raises UserError where nothing was."""
    rows = view.sound_versions(clip_id)
    if rows.is_empty():
        raise UserError(f"clip {clip_id}: its sound was not looked at. Run 'flywheel repair' first.")
    return [
        {**row, **{name: json.loads(row[name]) for name in ("plan", "before", "after", "trace")}}
        for row in rows.iter_rows(named=True)
    ]
