"""What the queue's index takes of each text: measured in arrays, of which it is made."""

from __future__ import annotations

import tracemalloc

import numpy as np

from flywheel.core.types import content_id
from human_refine import texts
from human_refine.ids import packed, ranks, unpacked

ROWS = 60_000
#: Key, id, entry, log-prob and two signals.
KEPT = 8 + 20 + 4 + 8 + 2 * 8


def some(numbers: range) -> texts._Current:
    rng = np.random.default_rng(numbers.start)
    values = rng.random((3, len(numbers)))
    return texts._Current(
        round=1,
        key=np.sort(rng.integers(0, 1 << 63, len(numbers)).astype(np.uint64)),
        ids=packed(f"{number:020x}" for number in numbers),
        entry=np.arange(numbers.start, numbers.stop, dtype=np.int32),
        mean_logprob=values[0],
        values={"doubt": values[1].copy(), "change": values[2].copy()},
    )


def test_rows_are_merged_in_little_more_than_they_take() -> None:
    tracemalloc.start()
    try:
        parts = [some(range(start, start + ROWS // 3)) for start in range(0, ROWS, ROWS // 3)]
        before = tracemalloc.get_traced_memory()[0]
        whole = texts._merged(1, parts)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert KEPT * ROWS <= now < (KEPT + 12) * ROWS  # With the third row of values, which the views keep.
    assert peak - before < 0.9 * KEPT * ROWS, "both at once would be twice what is kept"
    assert np.array_equal(whole.key, np.sort(whole.key))
    assert unpacked(whole.ids).sort().to_list() == [f"{number:020x}" for number in range(ROWS)]


def test_entries_of_all_rounds_are_joined_one_column_after_the_other() -> None:
    dtypes = {"clip": np.uint64, "kind": np.uint8, "round": np.int16, "by_model": np.bool_, "shard": np.int32}
    parts = [{name: np.ones(ROWS, dtype=dtype) for name, dtype in dtypes.items()} for _ in range(2)]
    parts[1]["by_model"][:] = False
    parts[0]["clip"][:] = np.arange(ROWS)
    every = texts._AllRounds().extended(parts)
    assert not any(parts), "the parts are emptied"
    assert sum(getattr(every, name).nbytes for name in (*dtypes, "by_clip")) == 20 * 2 * ROWS
    wanted = np.array([5, 70_000, 17], dtype=np.uint64)
    assert every.by_model_before(2, wanted).tolist() == [5, 17]
    assert every.by_model_before(1, wanted).tolist() == []


def test_ranks_are_places_in_the_order_of_the_ids() -> None:
    ids = [content_id(number) for number in range(300)] + ["a", "gr\u00fcn", "text-0002", "text-0001"]
    assert [ids[i] for i in np.argsort(ranks(packed(ids)))] == sorted(ids)
