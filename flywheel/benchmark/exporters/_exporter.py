"""What an exporter is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.benchmark.exporters._media import Media
from flywheel.benchmark.items import Item, Rejected


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A benchmark that is exported: its ``name`` (a word of letters, digits and ``_``), its items and their media."""

    name: str
    items: Sequence[Item]
    media: Media


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """How a benchmark is written for a harness.

    ``write`` writes into a folder that is there and returns how many items each variant has, by its name, and the items
    that could not be written. ``loading`` says how the harness is given the folder, with places for ``{name}`` and
    ``{out}``.
    """

    title: str
    source: str
    loading: str
    write: Callable[[Exported, Path], tuple[dict[str, int], list[Rejected]]]
