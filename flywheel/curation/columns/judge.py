"""What a judge said of clips (:mod:`flywheel.curation.judge`), a column for each criterion; never their mean."""

from __future__ import annotations

import polars as pl

from flywheel.core.types import CRITERIA, SHUFFLED
from flywheel.curation.columns._source import Source
from flywheel.store.view import View


def read(view: View) -> pl.DataFrame:
    """The scores (0 to 10, null: unscored) and ``judge_doubt``, why there are none, of the clips that were judged.

    A text judge is not expected to see that a sound is half a second off, and is not asked: twins at a wrong time
    have the clip's own scores, so that nothing is learned of time from a judge. Twins have scores where the clip was
    judged with another video's sound too.
    """
    judged = view.judgements(words=False)
    own = judged.select("clip_id", *_columns(""), judge_doubt="unscored")
    shuffled = view.control_judgements(SHUFFLED).select("clip_id", *_columns("shuffled_"))
    both = own.join(shuffled, on="clip_id", how="left", maintain_order="left")
    known = pl.col("shuffled_" + FEATURES[0]).is_not_null()
    return both.with_columns(pl.when(known).then(pl.col(name)).alias(f"shifted_{name}") for name in FEATURES)


def _columns(prefix: str) -> list[pl.Expr]:
    return [pl.col(name).cast(pl.Float32).alias(f"{prefix}judge_{name}") for name in CRITERIA]


FEATURES = tuple(f"judge_{name}" for name in CRITERIA)
SOURCE = Source(read=read, features=FEATURES, asked=True)
