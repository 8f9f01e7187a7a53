"""Planners by name, a file for each; other packages' by entry points of ``flywheel.curation.planners``."""

from __future__ import annotations

from typing import cast

from flywheel.core.registry import Registry
from flywheel.curation.repair.planners._planner import Ask, Case, Planner, Tried

__all__ = ["Ask", "Case", "Planner", "Tried", "names", "planner", "role_of"]

_registry = Registry(
    "flywheel.curation.repair.planners", what="planner", group="flywheel.curation.planners", attribute="plan_next"
)


def names() -> list[str]:
    """All planners, sorted."""
    return _registry.names()


def planner(name: str) -> Planner:
    """The planner of this name. Raises UserError for a name that is unknown."""
    return cast("Planner", _registry.function(name))


def role_of(made: Planner) -> str:
    """The role of the model that a planner asks; empty where it asks none."""
    return str(getattr(made, "role", ""))
