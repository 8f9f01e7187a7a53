"""Formats of datasets, one file each: how one is written, and what its card says of how to load it.

A module ``flywheel/formats/export/NAME.py`` adds a format by its ``FORMAT``. Other packages add formats through the
entry-point group ``flywheel.formats.export``. Names have dashes where modules have underscores.
"""

from __future__ import annotations

from flywheel.core.registry import Registry
from flywheel.formats.export._files import QUESTION
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow

__all__ = ["QUESTION", "ExportFormat", "ExportRow", "get", "names"]

_registry = Registry("flywheel.formats.export", what="export format", attribute="FORMAT", dashes=True)


def get(name: str) -> ExportFormat:
    """The format of this name. Raises UserError for an unknown, contested or broken one."""
    return _registry.fetch(name, ExportFormat)


def names() -> list[str]:
    """Names of all formats, other packages' included, sorted."""
    return _registry.names()
