"""Engines by name, one file each; other packages' through entry points of group ``flywheel.annotators.engines``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flywheel.core.registry import Registry

if TYPE_CHECKING:
    from annotators.interface import Engine

_registry = Registry("annotators.engines", what="engine")


def build(name: str, /, **arguments: Any) -> Engine:
    """The engine of this name. Raises UserError for an unknown name or argument."""
    engine: Engine = _registry.build(name, **arguments)
    return engine


def builder_of(name: str) -> Callable[..., Engine]:
    """The function that builds the engine of this name. Raises UserError for an unknown or broken one."""
    return _registry.function(name)


def check(name: str) -> None:
    """Raises UserError with the nearest name where there is no such engine; imports nothing."""
    _registry.check(name)


def names() -> list[str]:
    """All engines' names."""
    return _registry.names()


def takes_a_model(name: str) -> bool:
    """True where the engine runs a model's files: not where its builder has ``needs_model = False``."""
    return bool(getattr(builder_of(name), "needs_model", True))
