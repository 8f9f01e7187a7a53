"""Novelty by the vectors of ``flywheel index``: clips that look least like those people have seen."""

from __future__ import annotations

import numpy as np
import polars as pl

from flywheel.store.corrections import corrected_clips
from flywheel.store.vectors_in_use import vectors_in_use
from human_refine.signals import TextBatch, Values, clip_keys
from human_refine.signals.novelty import MOST_NOVEL, farthest_first


def novelty_by_index(batch: TextBatch) -> Values:
    """As :func:`human_refine.signals.novelty.novelty`, by the pictures' vectors of the index; nan without an index."""
    values = np.full(batch.rows.height, np.nan)
    index = vectors_in_use(batch.workspace)
    if index is None or "video" not in index.modalities:
        return values
    there = np.flatnonzero(index.has["video"])
    vectors = index.vectors("video", there).astype(np.float32)
    ids = pl.Series(index.ids(there), dtype=pl.String)
    row_of = dict(zip(clip_keys(ids).tolist(), range(len(ids)), strict=True))
    rows = [(i, row_of[key]) for i, key in enumerate(batch.rows["clip"].to_list()) if key in row_of]
    if not rows:
        return values
    seen = ids.is_in(list(corrected_clips(batch.workspace))).to_numpy()
    points = vectors[[row for _, row in rows]]
    for place, distance in farthest_first(points, vectors[seen] if seen.any() else None, min(len(rows), MOST_NOVEL)):
        values[rows[place][0]] = distance
    return values
