"""Sorting and looking up of many keys: the order is that of the strings, and few bytes are taken beside the keys."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import content_id
from flywheel.store import mapped
from flywheel.store.arrays import heads, is_among, ranks, string_order
from flywheel.store.mapped import MappedRows

AWKWARD = ["", "a", "a\u00e9", "abcdefgh", "abcdefghz", "abcdefghb", "\u00fc", "z", "\U0001f600", "abcdefgh"]


IDS, ALIKE = [content_id(n) for n in range(500)], [f"clip-00{n}" for n in range(500)]


@pytest.mark.parametrize("strings", [[], ["b"], AWKWARD, IDS, ALIKE])
def test_the_order_is_that_of_the_strings(strings: list[str]) -> None:
    def whole(rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([strings[row].encode() for row in rows])

    order = string_order(heads(strings), whole)
    assert order.tolist() == sorted(range(len(strings)), key=lambda row: strings[row])
    assert [order[place] for place in ranks(order)] == list(range(len(strings)))


def test_keys_are_looked_up_in_few_bytes() -> None:
    keys = np.random.default_rng(0).integers(0, 400_000, 300_000).astype(np.uint64)
    wanted = keys[::7].copy()
    expected = np.isin(keys, wanted)
    tracemalloc.start()
    try:
        found = is_among(keys, wanted)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, expected)
    assert peak < 13 * len(keys)  # Of all at once sorted copies are taken: some 40 bytes a key.
    assert not is_among(keys, keys[:0]).any()
    assert len(is_among(keys[:0], keys)) == 0


def test_rows_of_a_mapped_file_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_TAKEN", 3)
    ids = random.Random(1).sample([*AWKWARD[:-1], *(content_id(n) for n in range(30))], 39)
    frame = pl.DataFrame({"id": ids, "number": range(39)})
    rows = MappedRows(tmp_path, lambda: frame.iter_slices(5), frame.clear())
    order = rows.order("id")
    assert order.nbytes == 4 * len(frame)
    assert rows.scattered(order).equals(frame.sort("id"))
    assert rows.scattered(order[7:9]).equals(frame.sort("id")[7:9])
    assert rows.scattered(order[:0]).equals(frame.clear())
    none = MappedRows(tmp_path, lambda: iter(()), frame.clear())
    assert none.scattered(none.order("id")).equals(frame.clear())
