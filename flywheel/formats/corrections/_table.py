"""Waiting texts as rows of a table, with empty columns for people to fill in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import polars as pl

from flywheel.formats.rows import ReviewRow

_COLUMNS = (
    "annotation_id",
    "clip_id",
    "uri",
    "start_s",
    "end_s",
    "split",
    "link",
    "model_text",
    "verdicts",
    "verdict",
    "text",
    "refiner",
)
#: What may stand under ``verdict``; a row that is left blank is not done yet.
_VERDICTS = "accept | edit | reject | skip | cant_tell"
#: Texts that are in memory at a time.
_AT_A_TIME = 10_000


def blank_row(row: ReviewRow) -> dict[str, str]:
    """A correction of this text, its verdict and refiner still empty."""
    return {
        "annotation_id": row.annotation_id,
        "clip_id": row.clip_id,
        "uri": row.uri,
        "start_s": f"{row.start_s:.3f}",
        "end_s": f"{row.end_s:.3f}",
        "split": row.split,
        "link": row.link,
        "model_text": row.text,
        "verdicts": _VERDICTS,
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
