"""Batches come in order, ahead of the step that needs them, and the wait for them is measured."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from training_bed import data

from flywheel.models.inputs import InputBuilder
from flywheel.models.kept import KeptPixels
from flywheel.models.load import load_processor
from flywheel.playground.tiny import bundled_model
from trainers.data import Collator
from trainers.feeding import Feeder

CPU = torch.device("cpu")
ROWS = [[i, i + 1] for i in range(0, 24, 2)]


def slow(seconds: float) -> Any:
    def prepare(rows: Sequence[int]) -> dict[str, Any]:
        time.sleep(seconds)
        return {"row": torch.tensor(list(rows))}

    return prepare


@pytest.mark.slow
def test_preparation_of_half_a_step_costs_no_time() -> None:
    """One thread, a step of 40 ms, preparation of 20 ms: what the steps alone take, within 5 % (medians)."""
    ratio, busy = {}, {}
    for num_threads in (0, 1):
        rows, steps, ended = [], [], []
        with Feeder(CPU, num_threads) as feeder:
            for batch in feeder.batches(slow(0.02), ROWS):
                rows.append(batch["row"].tolist())
                given = time.perf_counter()
                time.sleep(0.04)
                ended.append(time.perf_counter())
                steps.append(ended[-1] - given)
            busy[num_threads] = feeder.waiting.busy_share()
        assert rows == ROWS
        ratio[num_threads] = statistics.median(b - a for a, b in itertools.pairwise(ended)) / statistics.median(steps)
    assert ratio[1] <= 1.05
    assert ratio[0] > 1.3, "or nothing was prepared ahead"
    assert busy[0] < busy[1] - 0.15
    assert busy[1] > 0.9


def test_no_more_is_prepared_than_the_queue_holds() -> None:
    before = threading.active_count()
    prepared: list[int] = []

    def prepare(rows: Sequence[int]) -> dict[str, Any]:
        prepared.append(rows[0])
        return {}

    with Feeder(CPU, 2) as feeder:
        batches = feeder.batches(prepare, ROWS)
        next(batches)
        time.sleep(0.05)
        assert len(prepared) <= 4, "the one given and three ahead"
        batches.close()
    assert threading.active_count() <= before


@pytest.mark.parametrize("num_threads", [0, 2])
def test_what_fails_is_raised_where_its_batch_would_come(num_threads: int) -> None:
    def prepare(rows: Sequence[int]) -> dict[str, Any]:
        if rows[0] == 4:
            raise ValueError("clip 4 can't be read")
        return {"row": rows[0]}

    with Feeder(CPU, num_threads) as feeder:
        batches = feeder.batches(prepare, ROWS)
        assert [next(batches)["row"] for _ in range(2)] == [0, 2]
        with pytest.raises(ValueError, match="clip 4"):
            next(batches)


def test_threads_make_the_batches_that_the_caller_would() -> None:
    """Each thread has a tokenizer of its own, all the same kept pixels."""
    builder = InputBuilder(load_processor(bundled_model()))
    rows = [[0, 1], [2, 3], [4, 5], [0, 3], [1, 5]]
    found = []
    for num_threads in (0, 3):
        with Feeder(CPU, num_threads) as feeder:
            found.append(list(feeder.batches(Collator(data(6), builder, {"g": 0}, None), rows)))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(builder._kept) == 6


def test_kept_pixels_stay_within_their_bytes() -> None:
    kept = KeptPixels(1000)
    for number in range(1000):
        kept.put(str(number), ([], {"pixels": torch.zeros(25)}))
        assert kept.size_bytes <= 1000
    assert len(kept) == 10
    assert kept.get("989") is None
    assert kept.get("990") is not None
    kept.put("new", ([], {"pixels": torch.zeros(25)}))
    assert kept.get("991") is None, "the one that was used longest ago went"
    assert kept.get("990") is not None
    kept.put("huge", ([], {"pixels": torch.zeros(251)}))
    assert kept.get("huge") is None
    assert len(kept) == 10
