"""Readers of retrieval benchmarks' files, one file each; other packages' by entry points of this package's name.

A module ``flywheel/benchmark/retrieval/NAME.py`` adds a format by its ``READER``.
"""

from __future__ import annotations

from flywheel.benchmark.retrieval._reader import Described, RetrievalReader
from flywheel.core.registry import Registry

__all__ = ["Described", "RetrievalReader", "get", "names"]

_registry = Registry("flywheel.benchmark.retrieval", what="retrieval format", attribute="READER", dashes=True)


def get(name: str) -> RetrievalReader:
    """The reader of this name. Raises UserError for an unknown, contested or broken one."""
    return _registry.fetch(name, RetrievalReader)


def names() -> list[str]:
    """Names of all formats, sorted."""
    return _registry.names()
