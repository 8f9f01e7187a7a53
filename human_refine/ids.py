"""Ids of texts in memory: as bytes side by side, twenty each where polars' strings take 36."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.store import arrays

Ids = NDArray[np.bytes_]


def packed(ids: Iterable[str]) -> Ids:
    """The ids as bytes of UTF-8, (n,), all as wide as the longest."""
    return np.array([i.encode() for i in ids], dtype=np.bytes_)


def unpacked(ids: Ids) -> pl.Series:
    """The ids as strings again, (n,)."""
    return pl.Series([i.decode() for i in ids.tolist()], dtype=pl.String)


def ranks(ids: Ids) -> NDArray[np.int32]:
    """The place of each id in their order, (n,): that of the bytes, which is that of the letters."""
    return arrays.ranks(arrays.string_order(arrays.heads_of(ids), lambda rows: ids[rows]))
