"""Synchrony, quality and repetition of clips' sounds (:mod:`flywheel.curation.evidence`)."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.curation.columns._source import Source, of_standing
from flywheel.sound.repetition import NUM_WORDS, repeats
from flywheel.store.view import View

#: How far the correlation of sound and picture is higher elsewhere than where they are together.
_ELSEWHERE = "elsewhere"
_PAIRS = ("", "shuffled_", "shifted_")


def read(view: View) -> pl.DataFrame:
    """The columns of the newest version of each clip's record, with ``repeats`` counted over all of them."""
    frame = of_standing(view, view.records.read("sounds"))
    elsewhere = [
        (pl.col(f"{pair}contrast") - pl.col(f"{pair}together")).alias(f"{pair}{_ELSEWHERE}") for pair in _PAIRS
    ]
    counted = frame.with_columns(*elsewhere, repeats=pl.Series(_repeats(frame), dtype=pl.Float32))
    return counted.drop("id", "print_a", "print_b", *(f"{pair}contrast" for pair in _PAIRS[1:]))


def _repeats(frame: pl.DataFrame) -> NDArray[np.float32]:
    """How many others have a sound like each (clips,); 0 where there is none."""
    known = frame["print_a"].is_not_null().to_numpy()
    both = frame.filter(pl.col("print_a").is_not_null()).select("print_a", "print_b").to_numpy()
    words = np.ascontiguousarray(both.astype(np.uint64)).view(np.uint32).reshape(len(both), NUM_WORDS)
    out = np.zeros(frame.height, dtype=np.float32)
    if len(both):
        out[known] = repeats(words)
    return out


SOURCE = Source(read=read, features=("together", _ELSEWHERE))
