"""Any action with any values: what a planner that knows something must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.core.types import content_id
from flywheel.curation.repair.plan import Plan, Step, plan
from flywheel.curation.repair.planners._planner import Case, Tried
from flywheel.sound import actions


def plan_next(case: Case, tried: Sequence[Tried]) -> Plan:
    """One action, all equally likely, with values equally likely within their ranges; the same for the same case."""
    rng = np.random.default_rng(int(content_id("random planner", case.key, len(tried))[:12], 16))
    name = str(rng.choice(actions.names()))
    values: dict[str, float] = {}
    for key, of in actions.action(name).parameters.items():
        whole = isinstance(of.default, int)
        values[key] = int(rng.integers(int(of.low), int(of.high) + 1)) if whole else float(rng.uniform(of.low, of.high))
    return plan([Step(action=name, parameters=values)], "drawn")
