"""What the round's texts are worth for retrieval: recall@1 of an encoder that learned from them, by people's words."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.rounds.retrieval import Retrieved, retrieve
from flywheel.rounds.stages._stage import Stage


def figures(result: Retrieved) -> Mapping[str, float]:
    """Recall@1 with its interval, the gains over the other arms with theirs, and chance; nothing where not measured."""
    if result.recall is None:
        return {}
    values = {"recall_at_1": result.recall} | {
        f"gain_over_{arm.replace(' ', '_')}": g for arm, g in result.gains.items()
    }
    named: dict[str, float] = {"asked": float(result.asked), "chance": result.chance}
    for name, estimate in values.items():
        named |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {f"retrieve/{name}": float(value) for name, value in named.items()}


STAGE = Stage(run=retrieve, result=Retrieved, figures=figures)
