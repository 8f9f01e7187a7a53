"""How many accelerators a stage's work is spread over, as its record says afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.rounds.devices import count_of

if TYPE_CHECKING:
    from flywheel.rounds.context import RoundContext

#: The key of a stage's record.
KEY = "accelerators"
_PASSES = frozenset({"annotate", "evaluate", "curate"})
_TRAININGS = frozenset({"pretrain", "finetune"})
#: Stages whose work is spread over accelerators.
SPREAD = _PASSES | _TRAININGS


def recorded(context: RoundContext, stage: str) -> dict[str, int]:
    """What goes into the record of a stage that ran: engines of a pass, devices of a training; else nothing.

    An engine or a device on the CPU counts as one.
    """
    if stage in _PASSES:
        config = context.config
        engines = config.ray.actors if config.annotate.executor == "ray" else 1
        return {KEY: engines * (context.num_processes if stage == "annotate" else 1)}
    return {KEY: count_of(context.config)} if stage in _TRAININGS else {}
