"""What is on record of a workspace's stages, as runs that a plan is fitted to."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.core.types import CAPTION, LEARN, MEASURE
from flywheel.rounds.accelerators import KEY
from flywheel.rounds.plan import Run
from flywheel.rounds.progress import DONE, order_of
from flywheel.store import Workspace

#: Stage -> purpose of the texts that it writes.
_WRITES = {"annotate": LEARN, "evaluate": MEASURE}


def runs_of(workspace: Workspace) -> Iterator[Run]:
    """The stages of rounds that are done, with their seconds; a skipped one, and one without work, is none.

    Clips are those of the round: captions that its `annotate` and `evaluate` wrote. Seconds of tries that were killed
    are among them. On how many accelerators a stage ran is unknown of records from before it was noted.
    """
    for round in workspace.rounds():
        if round == 0:
            continue
        seconds = workspace.stages_s(round)
        costs = {stage: workspace.ledger.costs(round, purpose) for stage, purpose in _WRITES.items()}
        captions = [workspace.ledger.cost(round, CAPTION, purpose) for purpose in _WRITES.values()]
        clips = int(sum(cost.get("written", 0) for cost in captions))
        for stage in order_of(workspace, round):
            state, record = workspace.stage(round, stage)
            if state != DONE or record.get("skipped") or not seconds.get(stage) or not clips:
                continue
            cost = costs.get(stage, {})
            yield Run(
                stage=stage,
                clips=clips,
                seconds=seconds[stage],
                gpus=record.get(KEY),
                decode_s=cost.get("decode_s", 0.0),
                money=cost.get("money", 0.0),
            )
