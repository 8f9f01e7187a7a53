"""Questions about videos: read from benchmarks' files, asked of any model, scored with intervals."""

from __future__ import annotations

from flywheel.benchmark.items import Group, Item, Questions, Rejected
from flywheel.benchmark.reading import read

__all__ = ["Group", "Item", "Questions", "Rejected", "read"]
