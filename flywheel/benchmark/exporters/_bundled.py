"""Modules of ours as a package without us, so that another program reads answers as we do."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_OURS = "flywheel"


def write_bundle(modules: Sequence[ModuleType], out: Path) -> None:
    """Write these modules, and all of ours that they import names from, side by side into the folder ``out``.

    Raises ValueError where two of them have one name.
    """
    waiting, texts, homes = list(modules), dict[str, str](), dict[str, str]()
    while waiting:
        module = waiting.pop()
        name = _flat(module.__name__)
        if homes.setdefault(name, module.__name__) != module.__name__:
            raise ValueError(f"bundle: {homes[name]} and {module.__name__} have one name")
        if name not in texts:
            texts[name], needed = _rewritten(inspect.getsource(module))
            waiting += needed
    out.mkdir(exist_ok=True)
    (out / "__init__.py").write_text('"""How replies are read as answers; copied from video-dataflywheel."""\n')
    for name, text in texts.items():
        (out / f"{name}.py").write_text(text, encoding="utf-8")


def _flat(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _rewritten(source: str) -> tuple[str, list[ModuleType]]:
    """A module's source with its imports of ours made relative, and the modules that it needs."""
    lines, needed = source.splitlines(), list[ModuleType]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == _OURS:
            imports = [_import(str(node.module), alias, needed) for alias in node.names]
            indent = " " * node.col_offset
            lines[node.lineno - 1 : node.end_lineno] = [
                indent + "; ".join(imports),
                *[""] * ((node.end_lineno or node.lineno) - node.lineno),
            ]
    return "\n".join(lines) + "\n", needed


def _import(package: str, alias: ast.alias, needed: list[ModuleType]) -> str:
    origin = importlib.import_module(package)
    value = getattr(origin, alias.name)
    renamed = f" as {alias.asname}" if alias.asname else ""
    if isinstance(value, ModuleType):
        needed.append(value)
        return f"from . import {_flat(value.__name__)}{renamed}"
    # A package gives names on that its modules define.
    home = sys.modules[value.__module__] if hasattr(origin, "__path__") else origin
    needed.append(home)
    return f"from .{_flat(home.__name__)} import {alias.name}{renamed}"
