"""Edits of sound by name: one file each; ``build("gain", db=-6.0)(samples, rate_hz)``, ``names()``.

All keep the length, so that a picture's time is left alone, work on mono and on several channels at any rate, never
pass full scale, and hold a bounded number of samples whatever the length. Other packages add theirs by entry points of
``flywheel.sound.actions`` to an :class:`Action`.
"""

from __future__ import annotations

import difflib
from typing import Any

from flywheel.core.errors import UserError
from flywheel.core.registry import Registry
from flywheel.sound.actions._action import Action, Edit, Family, Range
from flywheel.sound.actions._source import Source, local

__all__ = ["Action", "Edit", "Family", "Range", "Source", "action", "build", "local", "names"]

_registry = Registry("flywheel.sound.actions", what="action", attribute="ACTION")


def names() -> list[str]:
    """All actions, sorted."""
    return _registry.names()


def action(name: str) -> Action:
    """The action of this name, with the ranges of its parameters. Raises UserError for a name that is unknown."""
    return _registry.fetch(name, Action)


def build(name: str, /, **parameters: Any) -> Edit:
    """An edit ``(samples, rate_hz) -> samples``; parameters left out have their defaults.

    Raises UserError for an unknown name or parameter, and for a value out of range.
    """
    found = action(name)
    for given in parameters:
        if given not in found.parameters:
            near = difflib.get_close_matches(given, list(found.parameters), n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"It takes {', '.join(found.parameters) or 'none'}."
            raise UserError(f"action '{name}': unknown parameter '{given}'. {hint}")
    values = {
        key: of.checked(f"action '{name}': {key}", parameters.get(key, of.default))
        for key, of in found.parameters.items()
    }
    return Edit(found, (name, values))
