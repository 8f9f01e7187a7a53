"""What is to be done to a sound: at most one filter and one edit that brings sound and picture together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.sound import actions


@dataclass(frozen=True, kw_only=True)
class Step:
    """An action by name, with its parameters."""

    action: str
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps to be done to the original, filters first, and why. Without steps the sound is left as it is."""

    steps: tuple[Step, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.steps)

    def key(self) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
        """What tells plans apart; the reason does not."""
        return tuple((step.action, tuple(sorted(step.parameters.items()))) for step in self.steps)

    @property
    def by_picture(self) -> bool:
        """Whether the picture tells if one of the steps helps."""
        return any(actions.action(step.action).judged_by_picture for step in self.steps)

    @property
    def by_quality(self) -> bool:
        """Whether measured quality tells if one of the steps helps."""
        return any(not actions.action(step.action).judged_by_picture for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        return {
            "edits": [{"action": step.action, "parameters": dict(step.parameters)} for step in self.steps],
            "reason": self.reason,
        }

    def apply(self, samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        """The edited sound, as :class:`~flywheel.sound.actions.Edit` gives it."""
        for step in self.steps:
            samples = actions.build(step.action, **step.parameters)(samples, rate_hz)
        return samples


def plan(steps: Sequence[Step], reason: str = "") -> Plan:
    """A plan of these steps, in the order in which they are done.

    Raises UserError for an unknown action or parameter, a value out of range, and two actions of one family.
    """
    for step in steps:
        actions.build(step.action, **step.parameters)
    families = {step.action: actions.action(step.action).family for step in steps}
    for family, count in Counter(families[step.action] for step in steps).items():
        if count > 1:
            named = " and ".join(step.action for step in steps if families[step.action] == family)
            raise UserError(f"plan: {named} are both of family {family}. Name at most one filter and one coordination.")
    return Plan(steps=tuple(sorted(steps, key=lambda step: families[step.action] != "filter")), reason=reason)


def parse(text: str) -> Plan:
    """The plan that a planner wrote: ``{"edits": [{"action": "gain", "parameters": {"db": 6}}], "reason": "…"}``.

    Raises UserError, in one line, for what is no such object and as :func:`plan` does.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"plan: no JSON: {text!r:.80}.") from None
    edits = told.get("edits") if isinstance(told, dict) else None
    if not isinstance(edits, list):
        raise UserError(f"plan: need an object with the list 'edits', got {text!r:.80}.")
    steps = []
    for edit in edits:
        if not isinstance(edit, dict) or not isinstance(edit.get("action"), str):
            raise UserError(f"plan: need an object with 'action' for each edit, got {edit!r:.80}.")
        parameters = edit.get("parameters", {})
        if not isinstance(parameters, dict):
            raise UserError(f"plan: {edit['action']}: need an object for 'parameters', got {parameters!r:.80}.")
        steps.append(Step(action=edit["action"], parameters=parameters))
    return plan(steps, str(told.get("reason", "")))
