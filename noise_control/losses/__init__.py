"""Losses by name: one file each; ``build("tailr", gamma=0.1)``, ``names()``."""

from __future__ import annotations

from typing import Any

from flywheel.core.registry import Registry
from noise_control.interface import TokenLoss

_registry = Registry("noise_control.losses", what="loss")


def build(name: str, /, **arguments: Any) -> TokenLoss:
    """The loss of this name. Raises UserError for an unknown name or argument, ValueError for a value out of range."""
    loss: TokenLoss = _registry.build(name, **arguments)
    return loss


def names() -> list[str]:
    return _registry.names()
