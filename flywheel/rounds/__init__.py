"""Conducts a round: stages, gate, champion; owns the MLflow runs."""

from flywheel.rounds.conductor import run_round
from flywheel.rounds.context import RoundContext

__all__ = ["RoundContext", "run_round"]
