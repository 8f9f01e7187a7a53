"""Waiting texts as rows of a table, with empty columns for people to fill in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import polars as pl

from flywheel.formats.rows import ReviewRow

_COLUMNS = ("annotation_id", "uri", "model_text", "verdict", "text", "refiner")
#: Texts that are in memory at a time.
_AT_A_TIME = 10_000


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


def tables(rows: Iterable[ReviewRow]) -> Iterator[pl.DataFrame]:
    """The texts as frames, many at a time; one at least. All columns are strings."""
    stream = iter(rows)
    part = list(islice(stream, _AT_A_TIME))
    yield _table(part)
    while part := list(islice(stream, _AT_A_TIME)):
        yield _table(part)


def _table(rows: Iterable[ReviewRow]) -> pl.DataFrame:
    return pl.DataFrame([blank_row(row) for row in rows], schema=dict.fromkeys(_COLUMNS, pl.String))
