"""Small shards are merged: the same rows in the same order, for frozen views too, whatever happens in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import Annotation
from flywheel.store import View, Workspace, records, shards

Make = Callable[..., Workspace]


def text(number: int, round: int = 1) -> Annotation:
    values: dict[str, Any] = {"kind": "caption", "generation_id": "", "source": "model", "mean_logprob": -1.0}
    return Annotation(id=f"a{round}-{number}", round=round, clip_id=f"c{number}", text=f"text {number}", **values)


def fill(w: Workspace, shards: int, round: int = 1, first: int = 0) -> None:
    for number in range(first, first + shards):
        w.add_annotations([text(2 * number, round), text(2 * number + 1, round)], round)


def reads(view: View) -> dict[str, Any]:
    """All that can be read of annotations, by every way."""
    keys = [f"a{round}-{number}" for round in (1, 2) for number in range(100)]
    batches = list(view.records.batches("annotations", columns=["id", "text"], rows=7))
    return {
        "read": view.annotations().rows(),
        "round": view.annotations(round=1).rows(),
        "rows": view.records.rows("annotations", keys).rows(),
        "known": view.records.known("annotations", keys),
        "keys_from": view.records.keys_from("annotations", "a1-"),
        "count": (view.count("annotations"), view.count("annotations", round=1)),
        "batches": pl.concat(batches).rows() if batches else [],
        "files": pl.concat([pl.read_parquet(f) for f in view.records.files("annotations")]).rows(),
    }


def frozen(w: Workspace, round: int) -> View:
    w.set_stage(round, "annotate", "done", {"by": 0})
    w.freeze(round, leads=[], gold={}, excluded=[])
    return w.as_of(round)


def num_files(w: Workspace) -> int:
    return len(list((w.root / "annotations").rglob("part-*.parquet")))


@pytest.mark.slow
def test_the_same_rows_in_the_same_order_now_and_as_it_was(make_workspace: Make) -> None:
    w = make_workspace()
    fill(w, 10)
    view = frozen(w, 1)
    fill(w, 3, first=10)
    fill(w, 9, round=2)
    fill(w, 9, first=13)
    before, then = reads(w), reads(view)
    assert len(then["read"]) == 20
    with w.lock():
        pass
    assert [s.num_rows for s in w.records._shards("annotations")] == [20, 2, 2, 2, 18, 18], (
        "not over the frozen place, not over rounds, not fewer than eight"
    )
    assert reads(w) == before
    assert reads(view) == reads(w.as_of(1)) == then
    assert w.add_annotations([text(0), text(99)], 1) == 1, "keys still say what is there"
    assert reads(view) == then


def test_readers_that_listed_the_small_shards_can_go_on(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make_workspace()
    fill(w, 12)
    stream = w.records.batches("annotations", rows=2)
    first = next(stream)
    w.records.compact("annotations")
    assert pl.concat([first, *stream])["text"].to_list() == w.annotations()["text"].to_list()
    assert w.records.sweep() == 0, "they stay for a while"
    assert num_files(w) == 13
    monkeypatch.setattr(records, "_GRACE_S", 0.0)
    assert w.records.sweep() == 12
    assert num_files(w) == 1
    assert w.records.sweep() == 0


def test_what_is_removed_is_in_no_merged_shards_file(make_workspace: Make) -> None:
    w = make_workspace()
    fill(w, 12)
    w.records.compact("annotations")
    assert w.records.remove({"annotations": pl.col("clip_id") == "c3"}) == {"annotations": 1}
    assert num_files(w) == 1, "the small shards held it too"
    assert w.count("annotations") == w.annotations().height == 23
    assert w.records.known("annotations", ["a1-3", "a1-4"]) == {"a1-4"}
    assert w.records.rows("annotations", ["a1-3", "a1-4"])["text"].to_list() == ["text 4"]


def test_only_shards_that_hold_the_rows_are_written_anew(make_workspace: Make) -> None:
    w = make_workspace()
    fill(w, 5)
    before = set(w.records.files("annotations"))
    assert w.records.remove({"annotations": pl.col("clip_id").is_in(["c0", "c1", "c4"])}) == {"annotations": 3}
    after = set(w.records.files("annotations"))
    assert len(before & after) == 3
    assert len(after) == 4, "a shard of which nothing is left goes"


def test_a_frozen_view_does_not_see_what_came_after_a_takedown(make_workspace: Make) -> None:
    """The last commit's number is not given again when its rows are removed."""
    w = make_workspace()
    fill(w, 2)
    view = frozen(w, 1)
    w.records.remove({"annotations": pl.col("clip_id").is_in(["c2", "c3"])})
    fill(w, 1, first=20)
    assert view.annotations()["clip_id"].to_list() == ["c0", "c1"]
    assert w.annotations()["clip_id"].to_list() == ["c0", "c1", "c40", "c41"]


@pytest.mark.slow
def test_large_shards_stay_and_large_appends_are_cut(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make_workspace()
    for module in (shards, records):
        monkeypatch.setattr(module, "SHARD_ROWS", 20)
    w.add_annotations([text(i) for i in range(50)], 1)
    assert [s.num_rows for s in w.records._shards("annotations")] == [20, 20, 10]
    for number in range(50, 90):
        w.add_annotations([text(number)], 1)
    before = reads(w)
    assert w.records.compact("annotations") == 41
    assert [s.num_rows for s in w.records._shards("annotations")] == [20, 20, 20, 20, 10]
    assert w.records.compact("annotations") == 0
    assert reads(w) == before


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", ["write", "commit", "never"])
def test_a_merge_that_dies_loses_nothing(make_workspace: Make, monkeypatch: pytest.MonkeyPatch, dies_at: str) -> None:
    w = make_workspace()
    fill(w, 12)
    before = reads(w)

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    if dies_at != "never":
        with monkeypatch.context() as patch:
            if dies_at == "write":
                patch.setattr(records, "write_shard", die)
            else:
                patch.setattr(records.time, "time", die)
            with pytest.raises(Died):
                w.records.compact("annotations")
    assert reads(w) == before
    with w.lock():
        assert reads(w) == before
    assert reads(w) == before
    assert len(w.records.files("annotations")) == 1


COMPACT = """
import sys
from pathlib import Path
from flywheel.store import Workspace
from tests.store.test_compaction import fill
w = Workspace.open(Path(sys.argv[1]), ["tracking.enabled=false"])
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    with w.lock():
        fill(w, 8, first=number)
    number += 8
"""


@pytest.mark.slow
def test_killed_at_any_moment_every_row_is_there_once(make_workspace: Make) -> None:
    w = make_workspace()
    fill(w, 8)
    view = frozen(w, 1)
    then, rng, rows = reads(view), np.random.default_rng(3), 16
    for _ in range(6):
        # Aligned to whole appends: a killed one is not there at all.
        command = [sys.executable, "-c", COMPACT, str(w.root), str(rows // 2)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(float(rng.uniform(0.05, 1.5)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        texts = w.annotations()["text"].to_list()
        assert texts == [f"text {i}" for i in range(len(texts))]
        assert w.count("annotations") == len(texts)
        assert len(w.records.keys_from("annotations", "")) == len(texts)
        assert reads(view) == then
        rows = len(texts)
    assert rows > 16
    with w.lock():
        pass
    assert len(w.records.files("annotations")) < rows // 2
