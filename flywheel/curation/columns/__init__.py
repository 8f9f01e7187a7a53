"""Columns of evidence, a file for each that gives some; other packages' by entry points of ``flywheel.curation``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.registry import Registry
from flywheel.curation.columns._source import Source
from flywheel.store.view import View

__all__ = ["Source", "joined", "sources"]

_registry = Registry(
    "flywheel.curation.columns", what="source of columns", group="flywheel.curation", attribute="SOURCE"
)


def sources() -> list[Source]:
    """All sources, by name."""
    found: list[Any] = [_registry.builder(name) for name in _registry.names()]
    return [getattr(source, "SOURCE", source) for source in found]


def joined(view: View, clips: pl.DataFrame, of: Sequence[Source]) -> pl.DataFrame:
    """The clips (``clip_id``, …) with the columns of these sources, null where a clip has none.

    Raises UserError where two sources have a column of one name.
    """
    for source in of:
        frame = source.read(view)
        if twice := sorted((set(frame.columns) & set(clips.columns)) - {"clip_id"}):
            raise UserError(f"curate: column '{twice[0]}' comes from two sources. Uninstall one of their packages.")
        clips = clips.join(frame, on="clip_id", how="left", maintain_order="left")
    return clips
