"""How well each clip's sound goes with its picture by the encoder of ``flywheel index``, where there is an index."""

from __future__ import annotations

import numpy as np
import polars as pl

from flywheel.curation.columns._source import Source
from flywheel.store.vectors_in_use import vectors_in_use
from flywheel.store.view import View

#: Clips that are compared at a time.
_BLOCK = 16_384
COLUMN = "index_fit"


def read(view: View) -> pl.DataFrame:
    """``index_fit``: by how many standard deviations a picture is more like its own sound than the corpus' sounds are.

    Of clips that have vectors of both, in the scale of ``flywheel search``'s scores.
    """
    index = vectors_in_use(view)
    ids, values = pl.Series("clip_id", [], dtype=pl.String), np.zeros(0, np.float32)
    if index is not None and {"video", "sound"} <= set(index.modalities):
        places = np.flatnonzero(index.has["video"] & index.has["sound"])
        ids = pl.Series("clip_id", index.ids(places), dtype=pl.String)
        values = np.empty(len(places), np.float32)
        for start in range(0, len(places), _BLOCK):
            some = places[start : start + _BLOCK]
            pictures, sounds = (index.vectors(name, some).astype(np.float32) for name in ("video", "sound"))
            mean, spread = index.spreads("sound", pictures)
            own = np.einsum("nd,nd->n", pictures, sounds)
            with np.errstate(invalid="ignore", divide="ignore"):
                values[start : start + _BLOCK] = np.where(spread > 1e-6, (own - mean) / spread, np.nan)
    return pl.DataFrame({"clip_id": ids, COLUMN: values}).with_columns(pl.col(COLUMN).fill_nan(None))


#: It is no feature of P(match): whether an index was made, and with which seed, would decide who stays.
SOURCE = Source(read=read)
