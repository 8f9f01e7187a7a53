"""What both trainings share: their data as trainers want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flywheel.core.types import Example
from flywheel.rounds.context import RoundContext

if TYPE_CHECKING:
    import trainers


def training_set(context: RoundContext, examples: Sequence[Example]) -> trainers.TrainingSet:
    """The examples with their media, prompt and the shares at which hints are held back."""
    import trainers

    plan = context.config.pretrain
    rates: dict[Any, float] = {"transcript": plan.transcript_dropout, "previous": plan.previous_dropout}
    return trainers.TrainingSet(
        examples=examples, input=context.input, prompt=context.prompt, dropout=rates, seed=plan.seed
    )
