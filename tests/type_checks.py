"""Checks of shapes and types around our functions, for the tests."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from types import CodeType

from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook, install_import_hook

#: The checker. An int is a float here, as the language's own checkers have it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


class _Loader(_import_hook._JaxtypingLoader):
    """jaxtyping's loader without compiled files.

    Its own changes where those lie while a module is imported, and so has all libraries that the module imports
    compiled once more.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)  # type: ignore[no-any-return]

    exec_module = SourceFileLoader.exec_module


def install(*packages: str) -> None:
    """Let functions of these packages check their arguments and results; before any of them is imported."""
    _import_hook._JaxtypingLoader = _Loader  # type: ignore[misc]
    install_import_hook(packages, "type_checks.checked")
