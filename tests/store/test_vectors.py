"""Vectors on record as matrices that are searched: what changed is seen, what is damaged is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.errors import BorderError
from flywheel.store import Workspace
from flywheel.store.vectors import LastVectors, VectorIndex, folder_of, forget_files, vector_row

Make = Callable[..., Workspace]


def unit(seed: int, width: int = 8) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=width).astype(np.float32)
    return vector / np.linalg.norm(vector)


def filled(workspace: Workspace, clips: range, model: str = "m") -> None:
    rows = [vector_row(model, "video", f"c{n:03d}", unit(n)) for n in clips]
    rows += [vector_row(model, "sound", f"c{n:03d}", unit(1000 + n)) for n in clips if n % 2]
    workspace.add_vectors(rows)


def test_similarities_are_those_of_the_records(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(40))
        filled(w, range(3), model="another")
    index = VectorIndex.open(w, "m", 8)
    assert len(index) == 40
    assert index.modalities == ("sound", "video")
    assert index.has["video"].all()
    assert index.has["sound"].sum() == 20
    found = index.similarities("video", unit(7))
    ids = index.ids(np.arange(40))
    expected = [float(unit(int(name[1:])) @ unit(7)) for name in ids]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert ids[int(found.argmax())] == "c007"
    assert not index.similarities("sound", unit(7))[~index.has["sound"]].any()
    assert index.among(pl.Series(["c003", "c039", "zzz"])).sum() == 2
    assert not index.among(pl.Series([], dtype=pl.String)).any()


def test_what_is_added_or_taken_down_is_seen_and_old_files_go(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(10))
        assert len(VectorIndex.open(w, "m", 8)) == 10
        filled(w, range(10, 12))
        # A clip's text that changed: the last counts.
        w.add_vectors([vector_row("m", "text", "c001", unit(5), of) for of in ("before",)])
        w.add_vectors([vector_row("m", "text", "c001", unit(6), of) for of in ("after",)])
        index = VectorIndex.open(w, "m", 8)
        assert len(index) == 12
        assert float(index.similarities("text", unit(6)).max()) == pytest.approx(1, abs=2e-3)
        w.records.remove({"vectors": pl.col("clip_id") == "c003"})
        index = VectorIndex.open(w, "m", 8)
    assert "c003" not in index.ids(np.arange(len(index)))
    assert len(list(folder_of(w.root).iterdir())) == 1
    forget_files(w.root)
    assert not folder_of(w.root).exists()


def test_a_text_that_comes_back_is_the_last_again(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        for number, of in enumerate(["a", "b"]):
            assert LastVectors(w, "m", "text").numbers(["c1", "c2"], [of, of]) == [number, 0]
            w.add_vectors([vector_row("m", "text", "c1", unit(number), of, number)])
        last = LastVectors(w, "m", "text")
        assert last.numbers(["c1"], ["b"]) == [None]
        assert last.numbers(["c1"], ["a"]) == [2]
        assert w.add_vectors([vector_row("m", "text", "c1", unit(0), "a", 2)]) == 1
        assert LastVectors(w, "m", "text").numbers(["c1"], ["a"]) == [None]
    assert float(VectorIndex.open(w, "m", 8).similarities("text", unit(0))[0]) == pytest.approx(1, abs=2e-3)


def test_a_text_that_is_gone_finds_its_clip_no_more(make_workspace: Make) -> None:
    w = make_workspace()
    nothing = np.zeros(0, np.float32)
    with w.lock():
        filled(w, range(2))
        w.add_vectors([vector_row("m", "text", f"c00{n}", unit(5), "a") for n in range(2)])
        w.add_vectors([vector_row("m", "text", "c001", nothing, "", 1), vector_row("m", "text", "c002", nothing, "")])
    index = VectorIndex.open(w, "m", 8)
    has = dict(zip(index.ids(np.arange(len(index))), index.has["text"], strict=True))
    assert has == {"c000": True, "c001": False, "c002": False}
    assert np.count_nonzero(index.similarities("text", unit(5))) == 1


def test_vectors_that_come_while_the_files_are_made_are_not_in_them(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(10))
        passes, read = [], w.records._scan

        def beside(*what: Any) -> pl.DataFrame:
            filled(w, range(100 + len(passes), 101 + len(passes)))
            passes.append(what)
            return read(*what)

        monkeypatch.setattr(w.records, "_scan", beside)
        index = VectorIndex.open(w, "m", 8)
    assert len(passes) == 2
    assert set(index.ids(np.arange(len(index)))) == {f"c{n:03d}" for n in range(10)}
    assert float(index.similarities("video", unit(7)).max()) == pytest.approx(1, abs=2e-3)


@pytest.mark.slow
def test_damaged_files_are_made_anew_and_others_halves_stay(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(300))
        w.add_vectors([vector_row("m", "text", "c001", unit(5), "a")])
    VectorIndex.open(w, "m", 8)
    [folder] = folder_of(w.root).iterdir()
    for name in sorted(file.name for file in folder.iterdir()):
        [folder] = folder_of(w.root).iterdir()
        file = folder / name
        # Room for all of it was taken before it was mapped: a disk that is full is no broken process.
        assert file.stat().st_blocks * 512 >= file.stat().st_size, file
        file.write_bytes(file.read_bytes()[:-20])
        assert VectorIndex.open(w, "m", 8).has["video"].sum() == 300, file
    fresh, old = (folder.with_name(f".{name}.01234567.part") for name in ("fresh", "old"))
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    with w.lock():
        filled(w, range(300, 301))
    index = VectorIndex.open(w, "m", 8)
    assert fresh.exists()
    # One more clip: the files grew, and what another search makes stays.
    assert (len(index), index.folder) == (301, next(folder_of(w.root).glob("*/state.npz")).parent)
    with w.lock():
        w.records.remove({"vectors": pl.col("clip_id") == "c003"})
    assert len(VectorIndex.open(w, "m", 8)) == 300
    assert not index.folder.exists()
    assert not old.exists()


def test_where_no_file_can_be_written_one_can_search(make_workspace: Make) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(10))
    folder_of(w.root).parent.mkdir(exist_ok=True)
    folder_of(w.root).write_bytes(b"a file in the way")
    assert float(VectorIndex.open(w, "m", 8).similarities("video", unit(7)).max()) == pytest.approx(1, abs=2e-3)


def test_no_vectors_are_an_empty_index(make_workspace: Make) -> None:
    assert len(VectorIndex.open(make_workspace(), "m", 8)) == 0


@pytest.mark.parametrize("vector", [unit(1, 4), np.full(8, np.nan, np.float32)], ids=["width", "nan"])
def test_vectors_of_another_width_or_no_numbers_are_one_line(make_workspace: Make, vector: np.ndarray) -> None:
    w = make_workspace()
    with w.lock():
        filled(w, range(3))
        w.add_vectors([vector_row("m", "video", "c900", vector)])
    with pytest.raises(BorderError, match="another width than 8, or no numbers") as caught:
        VectorIndex.open(w, "m", 8)
    assert "\n" not in str(caught.value)
    assert not [path for path in folder_of(w.root).rglob("*") if path.is_file()], "nothing half done stays"
