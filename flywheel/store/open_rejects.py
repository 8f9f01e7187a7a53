"""Which of ingest's rejects are closed: what they name is a clip by now."""

from __future__ import annotations

import polars as pl

from flywheel.core.constants import SPAN_GRACE_S


def taken_in(rejects: pl.DataFrame, clips: pl.DataFrame) -> list[str]:
    """Ids of rejects that clips close: of a whole file any clip of it does, of a span only a clip of that span.

    ``rejects`` has ``id``, ``uri``, ``start_s`` and ``end_s``, null where no time is named; ``clips`` has ``uri``,
    ``start_s`` and ``end_s``. Times are in seconds.
    """
    is_whole = pl.col("start_s").is_null() & pl.col("end_s").is_null()
    whole = rejects.filter(is_whole).join(clips, on="uri", how="semi")
    # A span that is named beyond its file's end, or without an end, is a clip up to the file's end.
    last = pl.col("clip_end_s") == pl.col("clip_end_s").max().over("uri")
    ends = clips.select("uri", "start_s", clip_end_s="end_s").with_columns(is_last=last)
    spans = rejects.filter(~is_whole).with_columns(pl.col("start_s").fill_null(0.0))
    pairs = spans.join(ends, on=["uri", "start_s"])
    past_end = pl.col("end_s") - pl.col("clip_end_s")
    up_to_end = pl.col("is_last") & (pl.col("end_s").is_null() | past_end.is_between(0, SPAN_GRACE_S))
    same = pairs.filter((past_end == 0) | up_to_end)
    return sorted({*whole["id"], *same["id"]})
