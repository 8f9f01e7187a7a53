"""What a planner is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel.curation.repair.measures import Measures, Norms
from flywheel.curation.repair.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip as planners see it: figures of its original sound, what is usual, and texts where models wrote some.

    ``key`` tells clips apart; ``seen`` and ``heard`` describe the picture without its sound and the sound alone.
    """

    key: str
    measures: Measures
    norms: Norms
    seen: str = ""
    heard: str = ""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A plan of an earlier cycle, the rewards that it came to, and why it was not accepted; empty where it was."""

    plan: Plan
    rewards: dict[str, float]
    refused: str


#: From a case and the cycles before, in order, the next plan; one without steps ends the search.
Planner = Callable[[Case, Sequence[Tried]], Plan]
