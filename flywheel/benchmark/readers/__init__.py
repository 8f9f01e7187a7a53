"""Readers of benchmarks' item files, one file each; other packages' by entry points of ``flywheel.benchmark.readers``.

A module ``flywheel/benchmark/readers/NAME.py`` adds a format by its ``READER``.
"""

from __future__ import annotations

from flywheel.benchmark.readers._reader import Beside, Reader
from flywheel.core.registry import Registry

__all__ = ["Beside", "Reader", "get", "names"]

_registry = Registry("flywheel.benchmark.readers", what="benchmark format", attribute="READER", dashes=True)


def get(name: str) -> Reader:
    """The reader of this name. Raises UserError for an unknown, contested or broken one."""
    return _registry.fetch(name, Reader)


def names() -> list[str]:
    """Names of all formats, sorted."""
    return _registry.names()
