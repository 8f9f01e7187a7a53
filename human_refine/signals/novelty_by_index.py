"""Novelty by the vectors of ``flywheel index``: clips that look least like those that people have seen."""

from __future__ import annotations

import numpy as np
import polars as pl

from flywheel.store.corrections import corrected_clips
from flywheel.store.vectors_in_use import vectors_in_use
from human_refine.signals import TextBatch, Values
from human_refine.signals.novelty import MOST_NOVEL, farthest_first


def novelty_by_index(batch: TextBatch) -> Values:
    """As :func:`human_refine.signals.novelty.novelty`, by the pictures' vectors of the index; nan without an index.

    In memory are the vectors of the queue's clips and of those that people spoke of, 4 bytes a number.
    """
    values = np.full(batch.rows.height, np.nan)
    index = vectors_in_use(batch.workspace)
    if index is None or "video" not in index.modalities or not len(index):
        return values
    has = index.has["video"]
    places = index.places_by_key(batch.rows["clip"].to_numpy())
    rows = np.flatnonzero((places >= 0) & has[places])
    if not len(rows):
        return values
    seen = index.places(pl.Series(list(corrected_clips(batch.workspace)), dtype=pl.String))
    seen = seen[(seen >= 0) & has[seen]]
    points, known = (index.vectors("video", some).astype(np.float32) for some in (places[rows], seen))
    for row, distance in farthest_first(points, known if len(known) else None, min(len(rows), MOST_NOVEL)):
        values[rows[row]] = distance
    return values
