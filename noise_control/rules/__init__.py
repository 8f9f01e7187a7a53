"""Adaptive losses by name, for ``adatailr(rule=NAME)``: one file each.

Another rule (the paper's own, once it is public) is one file more.
"""

from __future__ import annotations

from typing import Any

from flywheel.core.registry import Registry
from noise_control.rules._base import AdaptiveRule

__all__ = ["AdaptiveRule", "build", "names"]

_registry = Registry("noise_control.rules", what="adaptive rule")


def build(name: str, /, **arguments: Any) -> AdaptiveRule:
    """The rule of this name. Raises UserError for an unknown name or argument, ValueError for a value out of range."""
    rule: AdaptiveRule = _registry.build(name, **arguments)
    return rule


def names() -> list[str]:
    """All names, sorted; nothing is imported."""
    return _registry.names()
