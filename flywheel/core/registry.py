"""Names to builders: one module per name, imported only when asked for, with no list to edit.

A module ``package/NAME.py`` registers the name by having a function ``NAME``. Other people's packages add names through
entry points of the registry's group.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from flywheel.core.errors import UserError


class Registry:
    """The names of one package. What it builds carries ``built_from = (name, arguments)``."""

    def __init__(self, package: str, *, what: str) -> None:
        self.package = package
        self.what = what

    @cached_property
    def _own(self) -> frozenset[str]:
        folder = importlib.import_module(self.package).__path__
        return frozenset(m.name for m in pkgutil.iter_modules(folder) if not m.name.startswith("_"))

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"flywheel.{self.package}") if point.name not in self._own}

    def names(self) -> list[str]:
        return sorted({*self._own, *self._foreign})

    def builder(self, name: str) -> Callable[..., Any]:
        """The function behind a name. Raises UserError with the nearest known name."""
        if name in self._own:
            return getattr(importlib.import_module(f"{self.package}.{name}"), name)  # type: ignore[no-any-return]
        if name in self._foreign:
            return self._foreign[name].load()  # type: ignore[no-any-return]
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{self.what} '{name}': unknown.{hint} There are {', '.join(self.names())}.")

    def build(self, name: str, /, **arguments: Any) -> Any:
        """Build by name. Raises UserError for an unknown name or argument, ValueError from the builder for bad values."""
        builder = self.builder(name)
        known = inspect.signature(builder).parameters
        for argument in arguments:
            if argument not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                near = difflib.get_close_matches(argument, list(known), n=1)
                hint = f" Did you mean '{near[0]}'?" if near else f" It takes {', '.join(known) or 'none'}."
                raise UserError(f"{self.what} '{name}': unknown argument '{argument}'.{hint}")
        built = builder(**arguments)
        built.built_from = (name, dict(arguments))
        return built
