"""Waiting texts as rows of a table, with empty columns for people to fill in."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from flywheel.formats.rows import ReviewRow


def blank_row(row: ReviewRow) -> dict[str, str]:
    """A correction of this text, its verdict and refiner still empty."""
    return {
        "annotation_id": row.annotation_id,
        "uri": row.uri,
        "model_text": row.text,
        "verdict": "",
        "text": row.text,
        "refiner": "",
    }


def table(rows: Iterable[ReviewRow]) -> pl.DataFrame:
    """The texts as a frame; all columns are strings."""
    columns = ("annotation_id", "uri", "model_text", "verdict", "text", "refiner")
    return pl.DataFrame([blank_row(row) for row in rows], schema=dict.fromkeys(columns, pl.String))
