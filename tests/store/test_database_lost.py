"""A database that is missing, empty, old or another's is said, and nothing that could be data is ever deleted."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.config import template
from flywheel.core.errors import BorderError
from flywheel.store import Workspace
from flywheel.store.database import Database
from flywheel.store.mark import DatabaseLost, Home
from tests.plugins import Command
from tests.store.test_compaction import fill, text
from tests.store.test_view import clip, correction

LOCAL = "flywheel.db"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of three commits and a correction, closed, on SQLite."""
    root = tmp_path_factory.mktemp("made") / "w"
    Workspace.create(root, template())
    w = Workspace.open(root)
    w.add_clips([clip(0)])
    fill(w, 2)
    w.add_corrections([correction(0)])
    w.database.close()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "w"))


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Workspace]]:
    there: list[Workspace] = []

    def open_one(root: Path) -> Workspace:
        there.append(Workspace.open(root, ["tracking.enabled=false"]))
        return there[-1]

    yield open_one
    for w in there:
        w.database.close()


def files(root: Path) -> dict[str, bytes]:
    """All files of a workspace, but for what any opening touches; of the database whether it holds anything."""
    paths = (path for path in root.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock")))
    found = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    return found if LOCAL not in found else {**found, LOCAL: found[LOCAL][:15]}


def remove_database(root: Path) -> None:
    for end in ("", "-wal", "-shm"):
        (root / f"{LOCAL}{end}").unlink(missing_ok=True)


def empty_database(root: Path) -> None:
    remove_database(root)
    (root / LOCAL).touch()


def database_without_tables(root: Path) -> None:
    remove_database(root)
    connection = sqlite3.connect(root / LOCAL)
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()


def others_database(root: Path) -> None:
    other = root.parent / "other"
    Workspace.create(other, template())
    w = Workspace.open(other)
    fill(w, 1)
    w.database.close()
    remove_database(root)
    shutil.copy(other / LOCAL, root / LOCAL)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (remove_database, "missing, beside 3 shards"),
        (empty_database, r"empty \(0 bytes\), beside 3 shards"),
        (database_without_tables, "holds no tables, beside 3 shards"),
        (others_database, "not the database of the records"),
    ],
)
def test_a_database_that_does_not_know_the_records(root: Path, harm: Callable[[Path], None], says: str) -> None:
    harm(root)
    before = files(root)
    with pytest.raises(DatabaseLost, match=says):
        Workspace.open(root)
    assert files(root) == before


def test_a_commit_while_another_opens_makes_no_database_look_old(
    root: Path, opened: Callable[[Path], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twenty invitations at once one was told that the database is older than its records."""
    other, state = opened(root), Database.state

    def and_another_commits(self: Database) -> tuple[str, int]:
        before = state(self)
        monkeypatch.setattr(Database, "state", state)
        other.add_corrections([correction(1)])
        return before

    monkeypatch.setattr(Database, "state", and_another_commits)
    assert opened(root).num_corrections() == 2


def test_of_two_that_open_a_new_workspace_none_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other makes its tables, and writes records, after this one found the file empty."""
    home, file = Home(root), root / LOCAL
    content, looks = file.read_bytes(), home.mark()
    file.write_bytes(b"")

    def and_the_other_writes(self: Home) -> int:
        file.write_bytes(content)
        return 3

    monkeypatch.setattr(Home, "_num_shards", and_the_other_writes)
    home.refuse_missing(file)
    assert home.mark() == looks
    monkeypatch.setattr(Home, "_num_shards", lambda self: 3)
    file.write_bytes(b"")
    with pytest.raises(DatabaseLost, match="0 bytes"):
        home.refuse_missing(file)


def test_a_command_says_what_to_do(root: Path, commandline: Command, capsys: pytest.CaptureFixture[str]) -> None:
    remove_database(root)
    assert commandline("ingest", str(root), "--config", str(root)) == 1
    assert "flywheel doctor --repair" in capsys.readouterr().err
    assert len(list(root.rglob("part-*"))) == 3


@pytest.mark.parametrize("later", ["records", "words"])
def test_yesterdays_database(root: Path, later: str, opened: Callable[[Path], Workspace]) -> None:
    shutil.copy(root / LOCAL, root.parent / "backup.db")
    w = opened(root)
    if later == "records":
        fill(w, 1, first=2)
    else:
        w.add_corrections([correction(1)])
    w.database.close()
    today = (root / LOCAL).read_bytes()
    shutil.copy(root.parent / "backup.db", root / LOCAL)
    before = files(root)
    with pytest.raises(DatabaseLost, match=r"older than the records beside it \(change 4, they are of change 5\)"):
        opened(root)
    assert files(root) == before
    (root / LOCAL).write_bytes(today)
    assert opened(root).num_corrections() == (1 if later == "records" else 2)


def test_without_a_mark_too_nothing_is_deleted(root: Path, opened: Callable[[Path], Workspace]) -> None:
    """As of a version that made none, or put back with the database: what that does not know is moved aside."""
    shutil.copy(root / LOCAL, root.parent / "backup.db")
    w = opened(root)
    fill(w, 1, first=2)
    newest = w.records.files("annotations")[-1]
    content = newest.read_bytes()
    w.database.close()
    shutil.copy(root.parent / "backup.db", root / LOCAL)
    (root / "store.mark").unlink()
    with opened(root).lock():
        pass
    assert (root / "lost" / newest.relative_to(root)).read_bytes() == content


def test_a_shard_whose_name_was_damaged_stays_where_it_is(root: Path, opened: Callable[[Path], Workspace]) -> None:
    w = opened(root)
    with w.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE shards SET name = replace(name, 'part-', 'parT-') WHERE kind = 'clips'")
    before = files(root)
    with pytest.raises(BorderError, match=r"names 1 shards that are gone.*and 1 files are there") as raised, w.lock():
        pass
    assert raised.value.code == "shard"
    assert files(root) == before
    assert w.annotations().height == 4, "what is whole can be read"


def test_a_new_workspace_needs_no_mark(tmp_path: Path, opened: Callable[[Path], Workspace]) -> None:
    Workspace.create(tmp_path / "w", template())
    (tmp_path / "w" / LOCAL).touch()
    with opened(tmp_path / "w").lock() as w:
        fill(w, 1)
    with opened(tmp_path / "w").lock() as w:
        assert w.annotations().height == 2


KILLED = """
import os, signal, sys
from flywheel.store import Workspace, records
from tests.store.test_compaction import fill
w = Workspace.open(sys.argv[1])
write = records.write_shard
def written(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
records.write_shard = written
with w.lock():
    fill(w, 1, first=2)
"""


@pytest.mark.slow
def test_a_shard_of_a_killed_command_is_moved_aside_and_written_again(
    root: Path, opened: Callable[[Path], Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    w = opened(root)
    with w.lock():
        assert "1 shard that no commit names" in capsys.readouterr().err
        assert w.annotations().height == 4
        fill(w, 1, first=2)
    assert w.annotations()["text"].to_list() == [f"text {i}" for i in range(6)]
    assert [pl.read_parquet(f)["id"].to_list() for f in (root / "lost").rglob("part-*")] == [["a1-4", "a1-5"]]
    with w.lock():
        assert capsys.readouterr().err == "", "said once"


def test_what_is_taken_down_goes_from_what_was_moved_aside(root: Path, opened: Callable[[Path], Workspace]) -> None:
    w = opened(root)
    names = [str(path.relative_to(root)) for path in w.records.files("annotations")]
    for name in names:
        (root / "lost" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, root / "lost" / name)
    w.records.remove({"annotations": pl.col("clip_id").is_in(["c0", "c1", "c2"])})
    left = [pl.read_parquet(f, hive_partitioning=False) for f in (root / "lost").rglob("part-*")]
    assert [frame["clip_id"].to_list() for frame in left] == [["c3"]]


def test_half_written_files_go(root: Path, opened: Callable[[Path], Workspace]) -> None:
    half = root / "annotations" / "round=001" / "part-1.parquet.tmp"
    half.write_bytes(b"PAR1")
    with opened(root).lock():
        pass
    assert not half.exists()
    assert not (root / "lost").exists()


def test_a_mark_that_can_not_be_written_costs_nothing(root: Path, opened: Callable[[Path], Workspace]) -> None:
    os.unlink(root / "store.mark")
    (root / "store.mark").mkdir()
    w = opened(root)
    assert w.add_annotations([text(50)], 1) == 1
