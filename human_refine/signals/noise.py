"""Noise: the texts of clips whose earlier text training found suspicious."""

from __future__ import annotations

import numpy as np
import polars as pl

from flywheel.store.parts import read_rows
from human_refine.signals import TextBatch, Values, clip_keys


def noise(batch: TextBatch) -> Values:
    """The suspicion of the last training that saw a clip's text, in (0, 1]; a clip keeps it until people spoke."""
    suspected = batch.workspace.records.read("noise_signals").sort("round").select("annotation_id", "value")
    values = np.full(batch.rows.height, np.nan)
    if suspected.is_empty():
        return values
    clips = read_rows(batch.workspace, "annotations", suspected["annotation_id"].unique(), ["id", "clip_id"])
    by_clip = suspected.join(clips.rename({"id": "annotation_id"}), on="annotation_id", maintain_order="left")
    by_clip = by_clip.with_columns(clip=pl.Series(clip_keys(by_clip["clip_id"])))
    by_clip = by_clip.unique("clip", keep="last", maintain_order=True).select("clip", "value")
    value = batch.rows.select("clip").join(by_clip, on="clip", how="left", maintain_order="left")["value"]
    values[:] = value.fill_null(float("nan")).to_numpy()
    values[~(values > 0)] = np.nan
    return values
