"""Which round and stage a workspace stands at, read from its database alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from flywheel.core.types import CURATE, REPAIR
from flywheel.store import Workspace

DONE = "done"
#: A stage that was begun and did not end, and that no process works on.
INTERRUPTED = "interrupted"
#: Where the workspace keeps the number of the last round before it was split anew.
LAST_RESPLIT = "resplit"
_STAGE_BEGAN = "stage_began"


def current_round(workspace: Workspace) -> int:
    """The round that is under way, or the next one where the last is done."""
    rounds = [r for r in workspace.rounds() if r > 0]
    if not rounds:
        return 1
    last = rounds[-1]
    return last + 1 if workspace.stage(last, "gate")[0] == DONE else last


def last_resplit(workspace: Workspace) -> int:
    """The last round before the corpus was split anew; 0 where it never was, or before any round."""
    return int(workspace.meta(LAST_RESPLIT) or 0)


def comparable_rounds(workspace: Workspace, round: int) -> list[int]:
    """Rounds up to this one that were measured on its split: the base (0) first, the round itself last."""
    first = last_resplit(workspace) + 1
    return [0, *range(first if round >= first else 1, round + 1)]


def order_of(workspace: Workspace, round: int) -> tuple[str, ...]:
    """The stages of a round in their order: as recorded when it began, else as the configuration has them now."""
    began = round in workspace.rounds()
    # A round that began before orders were recorded had the stages of then.
    others = (
        tuple(s for s in workspace.config.rounds.stages if s not in (REPAIR, CURATE))
        if began
        else workspace.config.stages
    )
    return workspace.order(round) or others


def current_stage(workspace: Workspace, round: int) -> str:
    """The first stage of the round that is not done; the last one where all are."""
    order = order_of(workspace, round)
    return next((s for s in order if workspace.stage(round, s)[0] != DONE), order[-1])


def stage_state(workspace: Workspace, round: int, stage: str) -> str:
    """The state of a stage as it is now: ``interrupted`` where it is on record as running and no process is at it."""
    state = workspace.stage(round, stage)[0]
    return INTERRUPTED if state == "running" and not workspace.is_locked() else state


def skipped_stages(workspace: Workspace, round: int) -> dict[str, str]:
    """Stages of the round that did nothing, and why."""
    records = {stage: workspace.stage(round, stage)[1] for stage in order_of(workspace, round)}
    return {stage: str(record["skipped"]) for stage, record in records.items() if record.get("skipped")}


def stage_began(workspace: Workspace, round: int, stage: str) -> None:
    """Record that a stage runs from now on: its seconds are on record only when it ends."""
    workspace.set_meta(_STAGE_BEGAN, json.dumps([round, stage, datetime.now(UTC).isoformat()]))


def stage_ended(workspace: Workspace) -> None:
    """Record that no stage runs."""
    workspace.set_meta(_STAGE_BEGAN, "[]")


def running_stage(workspace: Workspace) -> tuple[int, str, datetime] | None:
    """Round, name and beginning (UTC) of the stage that runs, or was killed last; None where none does."""
    record = json.loads(workspace.meta(_STAGE_BEGAN) or "[]")
    return (record[0], record[1], datetime.fromisoformat(record[2])) if record else None
