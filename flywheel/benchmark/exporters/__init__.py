"""Exporters of benchmarks to other harnesses, one file each; other packages' by entry points of
``flywheel.benchmark.exporters``.

A module ``flywheel/benchmark/exporters/NAME.py`` adds a format by its ``EXPORTER``.
"""

from __future__ import annotations

from flywheel.benchmark.exporters._exporter import Exported, Exporter
from flywheel.core.registry import Registry

__all__ = ["Exported", "Exporter", "get", "names"]

_registry = Registry("flywheel.benchmark.exporters", what="harness", attribute="EXPORTER", dashes=True)


def get(name: str) -> Exporter:
    """The exporter of this name. Raises UserError for an unknown, contested or broken one."""
    return _registry.fetch(name, Exporter)


def names() -> list[str]:
    """Names of all formats, sorted."""
    return _registry.names()
