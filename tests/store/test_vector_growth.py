"""Files of vectors grow by what came, and graphs follow: stopped, torn or behind, what is found stays right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.store import Workspace, vector_graphs
from flywheel.store.moments import Moments
from flywheel.store.vector_files import OVERWRITING, FilesState
from flywheel.store.vectors import VectorIndex, folder_of, vector_row

Make = Callable[..., Workspace]
WIDTH = 16


def vectors(seed: int, count: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def fill(workspace: Workspace, clips: range, seed: int = 0, modality: str = "video", number: int = 0) -> np.ndarray:
    values = vectors(seed + clips.start, len(clips))
    of = f"{seed}"
    names = [f"c{clip:04d}" for clip in clips]
    workspace.add_vectors([vector_row("m", modality, n, v, of, number) for n, v in zip(names, values, strict=True)])
    return values


def opened(workspace: Workspace) -> VectorIndex:
    return VectorIndex.open(workspace, "m", WIDTH)


def read_by(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each scan from now on."""
    rows: list[int] = []
    scan = workspace.records._scan

    def counted(kind: str, shards: Any, *rest: Any) -> pl.DataFrame:
        rows.append(sum(shard.num_rows for shard in shards))
        return scan(kind, shards, *rest)

    monkeypatch.setattr(workspace.records, "_scan", counted)
    return rows


def test_what_came_is_all_that_is_read_and_merged_shards_are_known(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    with w.lock():
        for start in range(0, 300, 30):
            fill(w, range(start, start + 30))
        first = opened(w)
        rows = read_by(w, monkeypatch)
        fill(w, range(300, 310))
        fill(w, range(4), seed=7, modality="text")
        changed = fill(w, range(1), seed=8, modality="text", number=1)
        rows.clear()
        second = opened(w)
        assert (sum(rows), len(second), second.folder) == (2 * 15, 310, first.folder)
        assert w.records.compact("vectors") > 0
        rows.clear()
        third = opened(w)
        assert (rows, third.folder) == ([], first.folder)
    # Who opened it before sees what was there then.
    assert (len(first), first.modalities) == (300, ("video",))
    # Sums that followed are those of the vectors there are now.
    query, has = vectors(99, 1)[0], third.has["text"]
    assert has.sum() == 4
    found = third.similarities("text", query)[has]
    assert third.spread("text", query) == pytest.approx((found.mean(), found.std()), abs=1e-6)
    assert third.similarities("text", changed[0]).max() == pytest.approx(1, abs=2e-3)
    assert Moments.none(WIDTH).spread(query) == (0.0, 0.0)


def test_a_merge_of_what_is_known_with_what_is_new_changes_only_that(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        fill(w, range(40))
        first = opened(w)
        for start in range(40, 80, 5):
            fill(w, range(start, start + 5))
        w.records.compact("vectors")
        assert len(w.records.shards("vectors")) == 1
        second = opened(w)
    assert (second.folder, len(second)) == (first.folder, 80)
    assert (second.state.changes["video"] == 1).all()


def test_killed_while_vectors_are_overwritten_the_files_are_made_anew(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    with w.lock():
        fill(w, range(20), modality="text")
        first = opened(w)
        now = fill(w, range(1), seed=5, modality="text", number=1)
    with monkeypatch.context() as killed:
        killed.setattr(FilesState, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(w)
    assert (first.folder / OVERWRITING).exists()
    again = opened(w)
    assert again.folder != first.folder
    found = again.similarities("text", now[0])
    assert found.max() == pytest.approx(1, abs=2e-3)
    assert again.spread("text", now[0]) == pytest.approx((found.mean(), found.std()), abs=1e-6)


def test_a_disk_that_is_full_while_files_grow_ends_no_search(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    with w.lock():
        fill(w, range(20))
        kept = opened(w).folder
        fill(w, range(20, 25))
    room = vector_graphs.os.posix_fallocate

    def full(descriptor: int, start: int, size: int) -> None:
        if str(folder_of(w.root)) in str(Path(f"/proc/self/fd/{descriptor}").resolve()):
            raise OSError(28, "No space left on device")
        room(descriptor, start, size)

    with monkeypatch.context() as disk:
        disk.setattr("os.posix_fallocate", full)
        assert len(opened(w)) == 25
    after = opened(w)
    assert (len(after), after.folder) == (25, kept)


@pytest.fixture
def graphed(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of 600 clips whose vectors are in a graph."""
    monkeypatch.setattr(vector_graphs, "_REST", 10)
    w = make_workspace()
    with w.lock():
        fill(w, range(600))
    assert opened(w).update_graphs(600, 1) == {}
    assert not opened(w).has_graph("video")
    assert opened(w).update_graphs(599, 1) == {"video": 600}
    return w


def share_found(index: VectorIndex, modality: str = "video") -> float:
    """Recall@10 of the graph's nearest 40, ranked exactly."""
    hits = 0
    for query in vectors(1234, 30):
        exact = index.similarities(modality, query)
        near = index.nearest(modality, query, 40)
        hits += len(set(np.argsort(-exact)[:10]) & set(near[np.argsort(-exact[near])[:10]]))
    return hits / 300


def test_a_graph_finds_the_nearest_of_all_that_is_there_now(graphed: Workspace) -> None:
    w = graphed
    index = opened(w)
    assert share_found(index) >= 0.95
    assert index.update_graphs(0, 1) == {"video": 0}
    with w.lock():
        # Few more: not in the graph, and found all the same. One that changed, one that is gone.
        fill(w, range(600, 605))
        changed = fill(w, range(1), seed=50)
        nothing = np.zeros(0, np.float32)
        w.add_vectors([vector_row("m", "video", "c0007", nothing, "gone", 1)])
    index = opened(w)
    assert index.update_graphs(0, 1) == {"video": 0}
    assert share_found(index) >= 0.95
    near = index.nearest("video", changed[0], 5)
    assert index.ids(near[:])[int(index.similarities("video", changed[0], near).argmax())] == "c0000"
    gone = vectors(0, 600)[7]
    assert "c0007" not in index.ids(index.nearest("video", gone, 20))
    # Many more: they get in, beside those that changed.
    with w.lock():
        fill(w, range(605, 640))
    index = opened(w)
    assert index.update_graphs(0, 1) == {"video": 41}
    assert share_found(index) >= 0.95
    assert "c0007" not in index.ids(index.nearest("video", gone, 20))
    assert len(list(index.folder.glob("*.usearch"))) == 1


def test_a_graph_that_is_not_whole_is_left_alone_and_made_again(graphed: Workspace) -> None:
    for harm in (torn, gone, of_another_width, without_facts, with_half_facts):
        index = opened(graphed)
        [file] = index.folder.glob("*.usearch")
        harm(file, index.folder / "video.graph.npz")
        index = opened(graphed)
        assert not index.has_graph("video"), harm
        assert index.update_graphs(0, 1) == {"video": 600}, harm
        assert share_found(opened(graphed)) >= 0.95, harm


def torn(file: Path, facts: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def gone(file: Path, facts: Path) -> None:
    file.unlink()


def of_another_width(file: Path, facts: Path) -> None:
    from usearch.index import Index

    other = Index(ndim=WIDTH // 2, metric="cos", dtype="i8")
    other.add(np.arange(600), np.ones((600, WIDTH // 2), np.float32))
    other.save(str(file))
    with open(file, "r+b") as out:
        out.truncate(int(np.load(facts)["facts"].tobytes().split(b'"bytes": ')[1].rstrip(b"}")))


def without_facts(file: Path, facts: Path) -> None:
    facts.unlink()


def with_half_facts(file: Path, facts: Path) -> None:
    facts.write_bytes(facts.read_bytes()[:-50])


def test_killed_while_a_graph_is_made_what_was_written_counts(
    graphed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graphed.lock():
        fill(graphed, range(600, 900))
    monkeypatch.setattr(vector_graphs, "_TOGETHER", 100)
    write, calls = vector_graphs._write, []

    def killed(*what: Any) -> None:
        calls.append(what)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*what)

    with monkeypatch.context() as kill:
        kill.setattr(vector_graphs, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(graphed).update_graphs(0, 1)
    index = opened(graphed)
    assert share_found(index) >= 0.95
    assert index.update_graphs(0, 1) == {"video": 200}
    assert share_found(opened(graphed)) >= 0.95
