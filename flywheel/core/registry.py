"""Names to builders: one module per name, imported only when asked for, with no list to edit.

A module ``package/NAME.py`` registers the name by having a function ``NAME``. Other people's packages add names through
entry points of the registry's group.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from flywheel.core.errors import UserError, first_line

T = TypeVar("T")


#: Types of arguments that are checked before a builder gets them, and what each is called.
_PLAIN: Mapping[str, tuple[tuple[type, ...], str]] = {
    "float": ((int, float), "a number"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}


class Registry:
    """The names of one package. What it builds carries ``built_from = (name, arguments)``.

    ``group`` is the entry-point group of other packages' names; ``flywheel.`` and the package's name if left out.
    ``attribute`` is what a module of the package must have; the module's own name if left out.
    With ``dashes`` names are written with dashes, where modules have underscores.
    """

    def __init__(self, package: str, *, what: str, group: str = "", attribute: str = "", dashes: bool = False) -> None:
        self.package = package
        self.what = what
        self.group = group or f"flywheel.{package.removeprefix('flywheel.')}"
        self._attribute = attribute
        self._dashes = dashes

    def _spelled(self, name: str) -> str:
        return name.replace("_", "-") if self._dashes else name

    @cached_property
    def _own(self) -> frozenset[str]:
        # A module that is no package has no names of its own, only other packages'.
        folder = getattr(importlib.import_module(self.package), "__path__", [])
        modules = [m.name for m in pkgutil.iter_modules(folder) if not m.name.startswith("_")]
        return frozenset(self._spelled(name) for name in modules)

    @cached_property
    def _foreign(self) -> dict[str, list[EntryPoint]]:
        """Other packages' names; several entries where they contradict each other or a name of ours."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            known = found.setdefault(self._spelled(point.name), [])
            # An editable install can list the same entry twice.
            if point.value not in [entry.value for entry in known]:
                known.append(point)
        return found

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self._own, *self._foreign})

    def check(self, name: str) -> None:
        """Raises UserError with the nearest name for one that is unknown or that several packages claim."""
        claims = self._foreign.get(name, [])
        if name in self._own and not claims:
            return
        if not claims:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UserError(f"{self.what} '{name}': unknown.{hint} There are {', '.join(self.names())}.")
        if len(claims) + (name in self._own) > 1:
            owners = [*(["this package"] if name in self._own else []), *(_owner(point) for point in claims)]
            raise UserError(
                f"{self.what} '{name}': {' and '.join(owners)} both bring one. Uninstall all but one of them."
            )

    def builder(self, name: str) -> Callable[..., Any]:
        """The function (or, with ``attribute``, the object) behind a name.

        Raises UserError for a name that is unknown or claimed twice, and for a plug-in that can't be imported.
        """
        self.check(name)
        if name in self._own:
            module = name.replace("-", "_")
            return getattr(importlib.import_module(f"{self.package}.{module}"), self._attribute or module)  # type: ignore[no-any-return]
        point = self._foreign[name][0]
        try:
            return point.load()  # type: ignore[no-any-return]
        except (Exception, SystemExit) as error:
            # Other people's code: whatever it raises, it is this plug-in that is broken, and not the run.
            raise UserError(
                f"{self.what} '{name}': {_owner(point)} can't be imported "
                f"({type(error).__name__}: {first_line(error)}). Fix or uninstall it."
            ) from error

    def function(self, name: str) -> Callable[..., Any]:
        """What builds the thing of this name. Raises UserError as :meth:`builder` does, and for no function."""
        thing = self.builder(name)
        if not callable(thing):
            raise UserError(
                f"{self.what} '{name}': {_owner(self._foreign[name][0])} brings no function but a "
                f"{type(thing).__name__}. Fix or uninstall it."
            )
        return thing

    def fetch(self, name: str, of: type[T]) -> T:
        """The object of this class behind a name.

        Raises UserError as :meth:`builder` does, and for a plug-in that brings something else.
        """
        thing = self.builder(name)
        if not isinstance(thing, of):
            raise UserError(
                f"{self.what} '{name}': {_owner(self._foreign[name][0])} brings no {of.__name__} but a "
                f"{type(thing).__name__}. Fix or uninstall it."
            )
        return thing

    def build(self, name: str, /, **arguments: Any) -> Any:
        """Build by name. Raises UserError for an unknown name or argument,
        ValueError from the builder for bad values."""
        builder = self.function(name)
        known = inspect.signature(builder).parameters
        for argument in arguments:
            if argument not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                near = difflib.get_close_matches(argument, list(known), n=1)
                hint = f" Did you mean '{near[0]}'?" if near else f" It takes {', '.join(known) or 'none'}."
                raise UserError(f"{self.what} '{name}': unknown argument '{argument}'.{hint}")
            if wanted := _mismatch(known.get(argument), arguments[argument]):
                raise UserError(
                    f"{self.what} '{name}': {argument}: {wanted} is expected, got {arguments[argument]!r:.100}."
                )
        built = builder(**arguments)
        built.built_from = (name, dict(arguments))
        return built


def _mismatch(parameter: inspect.Parameter | None, value: object) -> str:
    """What a parameter of a plain type takes, where the value is of another; empty where it fits, or nobody can say."""
    wanted = "" if parameter is None else getattr(parameter.annotation, "__name__", str(parameter.annotation))
    if wanted not in _PLAIN:
        return ""
    types, words = _PLAIN[wanted]
    fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
    return "" if fits else words


def _owner(point: EntryPoint) -> str:
    return f"package '{point.dist.name}' ({point.value})" if point.dist is not None else f"'{point.value}'"
