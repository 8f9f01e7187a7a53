"""Conducts a round: stages, gate, champion; owns the MLflow runs.

What conducts imports models and losses, which takes seconds; 'flywheel status' needs none of that, so names are
imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.rounds.conductor import run_round
    from flywheel.rounds.context import RoundContext
    from flywheel.rounds.stages import Stage

__all__ = ["RoundContext", "Stage", "run_round"]


def __getattr__(name: str) -> Any:
    if name == "RoundContext":
        from flywheel.rounds.context import RoundContext

        return RoundContext
    if name == "run_round":
        from flywheel.rounds.conductor import run_round

        return run_round
    if name == "Stage":
        from flywheel.rounds.stages import Stage

        return Stage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
