"""What a round costs while it runs."""

from __future__ import annotations

from datetime import datetime

from flywheel.rounds.progress import running_stage
from flywheel.store import Workspace

#: Stages that cost by the hour and write no text.
_TRAINING = ("pretrain", "finetune")


def money_spent(workspace: Workspace, now: datetime, price_per_hour: float) -> float:
    """Money that the last round cost until ``now``: its texts, and its training by the hour."""
    rounds = [r for r in workspace.rounds() if r]
    if not rounds:
        return 0.0
    round = rounds[-1]
    seconds = sum(seconds for stage, seconds in workspace.stages_s(round).items() if stage in _TRAINING)
    running = running_stage(workspace)
    if running is not None and running[0] == round and running[1] in _TRAINING:
        seconds += max(0.0, (now - running[2]).total_seconds())
    return workspace.money(round) + seconds / 3600 * price_per_hour
