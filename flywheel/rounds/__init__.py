"""Conducts a round: stages, gate, champion; owns the MLflow runs."""

from flywheel.rounds.conductor import run_round
from flywheel.rounds.context import RoundContext
from flywheel.rounds.stages import Stage

__all__ = ["RoundContext", "Stage", "run_round"]
