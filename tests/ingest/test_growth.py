"""What an ingest costs: each file read once, lookups by the batch, few shards, nothing held that grows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sql

from flywheel.core.errors import MediaError, UserError
from flywheel.ingest import arrow_files, ingest, intake
from flywheel.ingest import files as reads
from flywheel.ingest.files import Files
from flywheel.ingest.sources import items
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace
from flywheel.store import schema as db

Make = Callable[..., Workspace]
FILES = Path(__file__).parent / "before"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("still.mp4", "tone.mp4", "text.mp4"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(FILES / name, tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each file was hashed and probed."""
    counts: Counter[tuple[str, str]] = Counter()

    def count(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def counting(path: Path, **options: int) -> Any:
            counts[name, path.name] += 1
            return read(path, **options)

        return counting

    for name in ("file_hash", "probe"):
        monkeypatch.setattr(reads, name, count(name, getattr(reads, name)))
    return counts


def manifest(folder: Path, rows: list[dict[str, Any]], name: str = "list.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def spans(count: int) -> list[dict[str, Any]]:
    names = ("still.mp4", "text.mp4")
    times = [round(i * 0.001, 3) for i in range(count)]
    return [{"video": names[i % 2], "start_s": t, "end_s": t + 1, "text": "x"} for i, t in enumerate(times)]


def take(workspace: Workspace, *sources: str) -> tuple[int, int, int]:
    with workspace.lock():
        result = ingest(workspace, sources)
    return result.clips, result.known, result.rejected


@pytest.mark.slow
def test_a_file_is_hashed_and_probed_once_whatever_number_of_spans_names_it(
    make_workspace: Make, folder: Path, counted: Counter[tuple[str, str]]
) -> None:
    w, source = make_workspace(), manifest(folder, spans(300))
    assert take(w, source) == (150, 0, 150)
    once = {(what, name): 1 for what in ("file_hash", "probe") for name in ("still.mp4", "text.mp4")}
    assert counted == once
    counted.clear()
    assert take(w, source) == (0, 150, 150)
    assert counted == {k: 1 for k in once if k != ("probe", "still.mp4")}, "what is known is not probed"


def test_known_whole_files_are_not_probed(
    make_workspace: Make, folder: Path, counted: Counter[tuple[str, str]]
) -> None:
    w = make_workspace()
    assert take(w, str(folder / "still.mp4"), str(folder / "tone.mp4")) == (2, 0, 0)
    counted.clear()
    assert take(w, str(folder / "still.mp4"), str(folder / "tone.mp4")) == (0, 2, 0)
    assert counted == {("file_hash", "still.mp4"): 1, ("file_hash", "tone.mp4"): 1}


def test_a_file_that_changed_is_read_again(folder: Path, counted: Counter[tuple[str, str]]) -> None:
    memo, path = Files(), folder / "still.mp4"
    before = memo.get(path).content_hash()
    assert memo.get(path).content_hash() == before
    shutil.copy(folder / "tone.mp4", path)
    assert memo.get(path).content_hash() != before
    assert counted["file_hash", "still.mp4"] == 2


def test_the_memo_is_bounded_and_keeps_failures(folder: Path, counted: Counter[tuple[str, str]]) -> None:
    memo = Files(most_files=2, most_cues=3)
    for name in ("still.mp4", "tone.mp4", "text.mp4"):
        memo.get(folder / name).content_hash()
    memo.forget()
    for name in ("text.mp4", "tone.mp4", "still.mp4"):
        memo.get(folder / name).content_hash()
    assert counted == {("file_hash", "still.mp4"): 2, ("file_hash", "tone.mp4"): 1, ("file_hash", "text.mp4"): 1}
    for _ in range(2):
        with pytest.raises(MediaError, match="not a readable video"):
            memo.get(folder / "text.mp4").info()
    assert counted["probe", "text.mp4"] == 1
    shutil.copy(FILES / "tone.vtt", folder / "tone.vtt")
    assert len(memo.get(folder / "tone.mp4").transcript()[0]) == 2
    memo.forget()
    shutil.copy(FILES / "tone.vtt", folder / "still.vtt")
    assert len(memo.get(folder / "still.mp4").transcript()[0]) == 2
    memo.forget()
    (folder / "tone.vtt").unlink()
    assert memo.get(folder / "tone.mp4").side_car() is None, "four cues are too many: the older file was forgotten"


def shards(workspace: Workspace, kind: str) -> list[int]:
    query = sql.select(db.shards.c.num_rows).where(db.shards.c.kind == kind).order_by(db.shards.c.position)
    with workspace.database.transaction() as connection:
        return list(connection.execute(query).scalars())


@pytest.mark.slow
def test_rows_are_committed_by_number_or_by_time(
    make_workspace: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in spans(600) if row["video"] == "still.mp4"]
    source = manifest(folder, rows)
    w = make_workspace()
    assert take(w, source) == (300, 0, 0)
    assert shards(w, "clips") == shards(w, "annotations") == [300], "over two batches, and one shard"
    monkeypatch.setattr(intake, "_COMMIT_ROWS", 100)
    by_number = make_workspace(name="number")
    assert take(by_number, source) == (300, 0, 0)
    assert shards(by_number, "clips") == [100, 100, 100]
    monkeypatch.setattr(intake, "_COMMIT_S", -1.0)
    by_time = make_workspace(name="time")
    assert take(by_time, manifest(folder, rows[:5], "few.jsonl")) == (5, 0, 0)
    assert shards(by_time, "clips") == [1] * 5


def test_texts_are_written_before_their_clips(
    make_workspace: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    with monkeypatch.context() as broken:
        broken.setattr(Workspace, "add_clips", lambda self, clips: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take(w, manifest(folder, spans(1)))
    assert (w.annotations(round=0).height, w.clips().height) == (1, 0)
    assert take(w, manifest(folder, spans(1))) == (1, 0, 0), "nothing is lost and nothing is there twice"
    assert (w.annotations(round=0).height, w.clips().height) == (1, 1)


def test_what_comes_before_a_missing_source_is_taken_in(make_workspace: Make, folder: Path) -> None:
    w = make_workspace()
    with pytest.raises(UserError, match="no such file"):
        take(w, str(folder / "gone"), str(folder / "still.mp4"))
    assert w.clips().height == 1


def test_lookups_read_no_clips(make_workspace: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make_workspace()
    assert take(w, str(folder / "still.mp4")) == (1, 0, 0)
    monkeypatch.setattr(w.records, "read", None)
    monkeypatch.setattr(w.records, "files", None)
    assert take(w, str(folder / "still.mp4"), str(folder / "tone.mp4")) == (1, 1, 0)


@pytest.fixture
def taken_in(make_workspace: Make, folder: Path) -> Workspace:
    w = make_workspace()
    assert take(w, str(folder / "still.mp4"), str(folder / "tone.mp4")) == (2, 0, 0)
    return w


def test_contents_whose_clips_were_taken_down_are_not_known(taken_in: Workspace, folder: Path) -> None:
    still = taken_in.clips().filter(pl.col("uri").str.ends_with("still.mp4")).row(0, named=True)
    with taken_in.lock():
        take_down(taken_in, [still["id"]], "asked", rewrite=lambda: None)
    left = set(taken_in.clips()["content_hash"])
    assert taken_in.known_contents([*left, still["content_hash"], "other"]) == left
    assert take(taken_in, str(folder / "still.mp4"), str(folder / "tone.mp4")) == (0, 1, 1)
    assert taken_in.rejected()["reason"].to_list() == ["was taken down: asked"]
    assert take(taken_in, str(folder / "still.mp4")) == (0, 0, 1)


def test_locations_without_clips_of_earlier_versions_are_not_believed(taken_in: Workspace, folder: Path) -> None:
    """They noted the location first: killed between, the file had no clips yet."""
    still = taken_in.clips().filter(pl.col("uri").str.ends_with("still.mp4")).row(0, named=True)
    with taken_in.lock():
        taken_in.records.remove({"clips": pl.col("id") == still["id"]})
    with taken_in.database.transaction() as connection:
        connection.execute(sql.update(db.locations).values(ingested=None))
    assert take(taken_in, str(folder / "still.mp4")) == (1, 0, 0)


def test_a_location_stays_while_the_file_is_there(taken_in: Workspace, folder: Path, tmp_path: Path) -> None:
    content_hash = taken_in.clips().filter(pl.col("uri").str.ends_with("still.mp4"))["content_hash"].item()
    (tmp_path / "copy.mp4").write_bytes((folder / "still.mp4").read_bytes())

    def place() -> str:
        clips = taken_in.clips().filter(pl.col("content_hash") == content_hash)
        return Path(clips["uri"].item()).name

    assert take(taken_in, str(tmp_path / "copy.mp4")) == (0, 1, 0)
    assert place() == "still.mp4"
    (folder / "still.mp4").unlink()
    assert take(taken_in, str(tmp_path / "copy.mp4")) == (0, 1, 0)
    assert place() == "copy.mp4"


@pytest.mark.slow
def test_tables_are_read_in_parts_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2_000
    monkeypatch.setattr(arrow_files, "_AT_A_TIME", 300)
    table = pl.DataFrame(
        {"path": [f"v{i}.mp4" for i in range(count)], "start": [float(i) for i in range(count)], "end": 1e6}
    )
    table.write_parquet(tmp_path / "t.parquet", row_group_size=700)
    table.write_csv(tmp_path / "t.csv")
    for name in ("t.parquet", "t.csv"):
        found = [(item.path.name, item.start_s) for item in items(str(tmp_path / name), tmp_path)]
        assert found == [(f"v{i}.mp4", float(i)) for i in range(count)]
        assert next(items(str(tmp_path / name), tmp_path)).path.name == "v0.mp4", "reading may end early"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(UserError, match="can't be read as a table"):
        list(items(str(tmp_path / "bad.parquet"), tmp_path))
