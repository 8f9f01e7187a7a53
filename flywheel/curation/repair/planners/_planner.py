"""What a planner is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flywheel.curation.repair.measures import Measures, Norms
from flywheel.curation.repair.plan import Plan

#: Asks a model about a clip: from a question, the JSON schema of its reply and how many replies before were no plans,
#: the reply. Raises UserError where there is none.
Ask = Callable[[str, str, int], str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip as planners see it: figures of its original sound, what is usual, and texts where models wrote some.

    ``key`` tells clips apart; ``seen`` and ``heard`` describe the picture without its sound and the sound alone.
    ``ask`` asks the model of the planner's role, for planners that have one.
    """

    key: str
    measures: Measures
    norms: Norms
    seen: str = ""
    heard: str = ""
    ask: Ask | None = None


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A plan of an earlier cycle, the rewards that it came to, and why it was not accepted; empty where it was.

    ``is_plan`` is false where what the planner made was none (an unknown action, one that was tried before); nothing
    was done then, and there are no rewards.
    """

    plan: Plan
    rewards: Mapping[str, float]
    refused: str
    is_plan: bool = True


#: From a case and the cycles before, in order, the next plan; one without steps ends the search. Raises UserError for
#: what is no plan. Its attribute ``role`` names the model that it asks, where it asks one.
Planner = Callable[[Case, Sequence[Tried]], Plan]
