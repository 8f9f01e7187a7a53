"""Conducts a round: stages, gate, champion; owns the MLflow runs.

What conducts imports models and losses, which takes seconds; 'flywheel status' needs none of that, so names are
imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.rounds.conductor import run_round
    from flywheel.rounds.context import RoundContext

__all__ = ["RoundContext", "run_round"]


def __getattr__(name: str) -> Any:
    if name == "RoundContext":
        from flywheel.rounds.context import RoundContext

        return RoundContext
    if name == "run_round":
        from flywheel.rounds.conductor import run_round

        return run_round
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
