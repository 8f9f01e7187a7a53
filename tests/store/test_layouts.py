"""Workspaces of older layouts are brought to today's once and whole, or stay what they were."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from flywheel.core.config import template
from flywheel.core.errors import BorderError, UserError
from flywheel.store import Workspace, schema
from flywheel.store.database import Database, sqlite_url
from tests.store.layouts import FOLDER, contents, fill_keys, layout_of, old_workspace

OPEN = "import sys; from flywheel.store.database import Database, sqlite_url; Database(sqlite_url(sys.argv[1]))"
SIX = ("annotate", "review", "pretrain", "finetune", "evaluate", "gate")


def is_whole(w: Workspace) -> None:
    """All that layout 3 had is there, in its new places."""
    assert w.clips()["id"].to_list() == [f"c{i}" for i in range(6)]
    assert w.clips()["uri"].to_list() == [f"/moved/{i // 2}.mp4" for i in range(6)]
    assert [w.count("annotations", round=round) for round in (0, 1, 2)] == [6, 8, 8]
    assert w.annotations(round=2, purpose="measure")["text"].to_list() == ["text 2 of 2", "text 3 of 2"]
    assert w.records.rows("annotations", ["a2c5", "a1e3"]).select("id", "purpose").rows() == [
        ("a1e3", "measure"),
        ("a2c5", "learn"),
    ]
    assert w.records.known("generations", ["g1c0", "g2e3", "gone"]) == {"g1c0", "g2e3"}
    assert w.rejected(open_only=True)["reason"].to_list() == ["open", "open too"]
    assert [w.order(round) for round in (0, 1, 2, 3)] == [None, SIX, SIX, None]
    assert w.stage(2, "review")[0] == "done"
    assert w.stage(2, "pretrain")[0] == "pending"
    assert w.writers() == {0: None, 1: 0, 2: 1}
    assert w.ledger.cost(2, "caption") == {"money": 2.5, "written": 6}
    assert w.ledger.cost(2, "caption", "measure") == {"money": 0.5, "written": 2}
    assert w.money(1) == 1.75
    assert w.ledger.looks(0) == [(1, "d1"), (1, "d2")]
    assert w.ledger.add_look(0, 1, "d2") == 2
    assert (w.meta("schedule"), w.meta("mlflow_parent"), w.meta("cost:1:caption")) == ("{}", "abc", None)
    assert (w.champion(), w.lineage()) == (1, [0, 1])
    view = w.as_of(1)
    assert view.corrections()["id"].to_list() == ["k1"]
    assert view.count("annotations") == 14
    assert view.snapshot is not None
    assert (view.snapshot.leads, view.snapshot.gold, view.snapshot.excluded) == (
        ("ann",),
        {"c1": "gold text"},
        ("bob",),
    )
    assert (view.champion(), view.rounds(), view.retired()) == (1, [0, 1], frozenset())
    assert w.ledger.exports_with(["c1"]) == ["/taken"]
    assert w.known_contents(["h0", "h2", "h9", "never"]) == {"h0", "h2"}, "h9 was located, and killed before its clips"


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Workspace]]:
    workspaces: list[Workspace] = []

    def open_one(root: Path) -> Workspace:
        workspaces.append(Workspace.open(root, ["tracking.enabled=false"]))
        return workspaces[-1]

    yield open_one
    for workspace in workspaces:
        workspace.database.close()


@pytest.mark.parametrize("layout", [3, 1])
def test_an_old_workspace_is_brought_to_this_layout_once(
    tmp_path: Path, layout: int, opened: Callable[[Path], Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    root = old_workspace(tmp_path / "w", layout)
    w = opened(root)
    assert capsys.readouterr().err == f"flywheel.db: brought to layout {schema.VERSION}\n"
    if layout == 3:
        is_whole(w)
    else:
        # Layout 1 had no exports; its shards' order is that of their rows.
        assert w.corrections()["payload"].to_list() == ["", ""]
        assert w.champions()[0]["action"] == "promote"
        assert w.count("annotations") == w.annotations().height == 22
    with w.lock():
        assert w.add_annotations([], 2) == 0
    opened(root)
    assert capsys.readouterr().err == "", "only once"


def test_a_migration_that_fails_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails: by then tables were made, renamed, filled and dropped."""
    root = old_workspace(tmp_path / "w")
    before = contents(root)

    def fail(connection: sql.Connection) -> None:
        connection.execute(sql.text("INSERT INTO nowhere VALUES (1)"))

    with monkeypatch.context() as patch:
        patch.setattr(schema, "_move_meta", fail)
        with pytest.raises(BorderError, match="nowhere"):
            Workspace.open(root)
    assert contents(root) == before
    w = Workspace.open(root)
    is_whole(w)
    w.database.close()


def test_a_key_without_its_shard_is_not_dropped_in_silence(tmp_path: Path) -> None:
    root = old_workspace(tmp_path / "w")
    fill_keys(root, 1)
    import sqlite3

    with sqlite3.connect(root / "flywheel.db") as connection:
        connection.execute("UPDATE keys SET shard = 'annotations/lost.parquet' WHERE key = 'a1c0'")
    connection.close()
    before = contents(root)
    with pytest.raises(BorderError, match="1 record keys name shards that are not part"):
        Workspace.open(root)
    assert contents(root) == before


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("99", rf"layout 99, this version reads layout {schema.VERSION}. Use the version that made it."),
        ("abc", r"layout 'abc', which no version wrote."),
    ],
)
def test_a_layout_of_no_version_before_is_refused_and_left_alone(tmp_path: Path, layout: str, message: str) -> None:
    root = old_workspace(tmp_path / "w")
    Workspace.open(root).set_meta("schema_version", layout)
    before = contents(root)
    with pytest.raises(UserError, match=message):
        Workspace.open(root)
    assert contents(root) == before


@pytest.mark.slow
def test_killed_at_any_moment_the_old_layout_is_whole_or_the_new_one(
    tmp_path: Path, opened: Callable[[Path], Workspace]
) -> None:
    """SIGKILL as soon as the log beside the file has a certain size: from the first page to the last."""
    root = old_workspace(tmp_path / "w")
    fill_keys(root, 200_000)
    log, states = root / "flywheel.db-wal", []
    before = contents(root)
    for size in (1, 1 << 20, 4 << 20, 8 << 20, 12 << 20, 16 << 20, 24 << 20):
        process = subprocess.Popen([sys.executable, "-c", OPEN, str(root / "flywheel.db")])
        while process.poll() is None and not (log.exists() and log.stat().st_size >= size):
            time.sleep(0.001)
        process.kill()
        process.wait()
        states.append(layout_of(root))
        if states[-1] == "3":
            assert contents(root) == before
    assert states.count("3") >= 3, "most kills came before the commit"
    full = (root / "flywheel.db").stat().st_size
    w = opened(root)
    assert layout_of(root) == str(schema.VERSION)
    if states[-1] == "3":
        assert (root / "flywheel.db").stat().st_size < full / 2, "keys take less room, and it is given back"
    assert w.clips().height == 6
    with w.database.transaction() as connection:
        assert connection.execute(sql.text("SELECT count(*) FROM keys WHERE kind = 'annotations'")).scalar() == 200_022


@pytest.mark.slow
def test_of_two_that_open_it_at_once_one_migrates(tmp_path: Path, opened: Callable[[Path], Workspace]) -> None:
    root = old_workspace(tmp_path / "w")
    fill_keys(root, 50_000)
    command = [sys.executable, "-c", OPEN, str(root / "flywheel.db")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "".join(said) == f"flywheel.db: brought to layout {schema.VERSION}\n"
    w = opened(root)
    assert w.count("annotations") == 22


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; needs root, and leave to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_on_a_full_disk_nothing_is_lost_and_the_next_opening_finishes(
    small_disk: Path, tmp_path: Path, opened: Callable[[Path], Workspace]
) -> None:
    source = old_workspace(tmp_path / "w")
    fill_keys(source, 30_000)
    subprocess.run(["cp", "-r", str(source), str(small_disk / "w")], check=True)
    root = small_disk / "w"
    before = contents(root)
    ballast = small_disk / "ballast"
    left = os.statvfs(small_disk)
    ballast.write_bytes(b"x" * max(0, left.f_bavail * left.f_frsize - (1 << 20)))
    with pytest.raises(BorderError, match=r"can't write .*Free space on the disk") as raised:
        Workspace.open(root)
    assert "\n" not in str(raised.value)
    ballast.unlink()
    assert contents(root) == before
    w = opened(root)
    assert layout_of(root) == str(schema.VERSION)
    assert w.count("annotations") == 22
    w.database.close()


@pytest.mark.slow
def test_a_database_of_layout_3_on_postgresql(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    """The same dump in PostgreSQL, and the same shards."""
    url, root = postgresql(), old_workspace(tmp_path / "w")
    (root / "flywheel.db").unlink()
    (root / "flywheel.yaml").unlink()
    Workspace.create(root, template())
    engine = sql.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for statement in (FOLDER / "flywheel.sql").read_text().split(";\n"):
            if statement and "TRANSACTION" not in statement and "COMMIT" not in statement:
                connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.exec_driver_sql("INSERT INTO meta VALUES ('workspace', 'this')")
    engine.dispose()
    (root / ".workspace").write_text("this")
    w = Workspace.open(root, [f"store.database={url}", "tracking.enabled=false"])
    is_whole(w)
    again = Database(url)
    again.close()
    w.database.close()
    assert Database(sqlite_url(tmp_path / "new.db")).is_empty()
