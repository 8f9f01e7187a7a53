"""Damage is found before it is read, can be given up by name, and a lost database is made again from the records."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel import doctor
from flywheel.core.config import template
from flywheel.core.errors import BorderError, FlywheelError, UserError
from flywheel.ingest import ingest
from flywheel.status import status_of
from flywheel.store import Workspace
from flywheel.store.gold import add_gold, gold_texts
from flywheel.store.health import fault_of, give_up, given_up, health_of
from flywheel.store.repair import repair_database
from flywheel.store.shards import ShardDamaged, collect, scan
from tests.plugins import Command
from tests.store.test_compaction import fill, text
from tests.store.test_database_lost import LOCAL, empty_database, others_database, remove_database
from tests.store.test_view import clip, correction

Change = Callable[[Path], None]


def workspace(root: Path) -> Workspace:
    return Workspace.open(root, ["tracking.enabled=false"])


@pytest.fixture(scope="module")
def with_a_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with merged and small shards, a frozen round and people's words, closed, on SQLite."""
    root = tmp_path_factory.mktemp("round") / "w"
    Workspace.create(root, template())
    w = workspace(root)
    with w.lock():
        w.add_clips([clip(i) for i in range(3)])
        w.locate({"h0": "/moved"})
        fill(w, 9)
        w.add_corrections([correction(0)])
        w.set_stage(1, "annotate", "done", {"by": 0})
        w.freeze(1, leads=[], gold={}, excluded=[])
        fill(w, 2, round=2)
    add_gold(w, {"c1": "right"}, "lead")
    w.database.close()
    return root


@pytest.fixture
def root(with_a_round: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(with_a_round, tmp_path / "w"))


def rows_of(w: Workspace) -> dict[str, list[tuple[object, ...]]]:
    """All records, in their order, by kind."""
    return {kind: w.records.read(kind).rows() for kind in ("clips", "annotations")}


def half(root: Path) -> None:
    content = (root / LOCAL).read_bytes()
    for end in ("-wal", "-shm"):
        (root / f"{LOCAL}{end}").unlink(missing_ok=True)
    (root / LOCAL).write_bytes(content[: len(content) // 2])


def rotten_name(root: Path) -> None:
    with sqlite3.connect(root / LOCAL) as connection:
        connection.execute("UPDATE shards SET name = replace(name, 'part-', 'parT-') WHERE num_rows = 18")
    connection.close()


@pytest.mark.parametrize(
    "harm",
    [
        *(pytest.param(harm, marks=pytest.mark.slow) for harm in (remove_database, empty_database, others_database)),
        half,
        rotten_name,
    ],
)
def test_a_database_is_made_again_from_the_records(root: Path, harm: Change) -> None:
    w = workspace(root)
    before = rows_of(w)
    assert len(before["annotations"]) == 22
    w.database.close()
    files = {path.read_bytes() for path in root.rglob("part-*")}
    harm(root)
    database = (root / LOCAL).read_bytes() if (root / LOCAL).exists() else b""
    repair_database(root)
    w = workspace(root)
    with w.lock():
        assert rows_of(w) == before
        assert w.records.rows("annotations", ["a1-3", "a2-0"])["text"].to_list() == ["text 3", "text 0"]
        fill(w, 1)
        assert rows_of(w) == before, "every key is known"
        assert w.corrections()["id"].to_list() == ["k0"], "as they were copied at the gate"
        assert w.known_contents(["h0", "h9"]) == {"h0"}
    w.database.close()
    assert {path.read_bytes() for path in root.rglob("part-*")} >= files
    if database and harm is not rotten_name:
        assert database in {path.read_bytes() for path in (root / "lost").rglob(LOCAL)}
    assert repair_database(root).lines == ["The database knows all records; nothing was changed."]


def test_yesterdays_database_is_brought_up_to_the_records(root: Path) -> None:
    """Since then shards were added, and the small ones merged with those it knows."""
    shutil.copy(root / LOCAL, root.parent / "backup.db")
    w = workspace(root)
    with w.lock():
        fill(w, 7, round=2, first=2)
    with w.lock():
        # The small ones go.
        w.records._purge_superseded()
    before, frozen = rows_of(w), w.as_of(1).annotations().rows()
    w.database.close()
    shutil.copy(root.parent / "backup.db", root / LOCAL)
    with pytest.raises(BorderError, match="older than the records"):
        workspace(root)
    assert any("annotations: 18 rows of 1 shards taken in again" in line for line in repair_database(root).lines)
    w = workspace(root)
    with w.lock():
        assert rows_of(w) == before
        assert w.as_of(1).annotations().rows() == frozen
        assert gold_texts(w) == {"c1": "right"}
    w.database.close()


@pytest.mark.slow
def test_words_are_taken_over_from_a_damaged_database(root: Path) -> None:
    """A page of another table is overwritten: what people said is whole."""
    w = workspace(root)
    w.add_corrections([correction(i) for i in range(1, 30)])
    w.database.close()
    with sqlite3.connect(root / LOCAL) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'keys'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with open(root / LOCAL, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(FlywheelError):
        fill(workspace(root), 1, round=3)
    lines = "\n".join(repair_database(root).lines)
    assert "corrections: 30 rows taken over" in lines
    w = workspace(root)
    assert (w.num_corrections(), gold_texts(w), w.writers()) == (30, {"c1": "right"}, {1: 0})
    assert w.as_of(1).count("annotations") == 18
    w.database.close()


@pytest.mark.slow
def test_what_was_moved_aside_is_taken_in_once(root: Path, commandline: Command) -> None:
    w = workspace(root)
    before, newest = rows_of(w), w.records.shards("annotations")[-1].name
    with w.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM keys WHERE kind = 'annotations' AND key IN ('a2-2', 'a2-3')")
        connection.exec_driver_sql(f"DELETE FROM shards WHERE name = '{newest}'")
    with w.lock():
        assert w.annotations().height == 20
        # As if the command had been run again, and killed half-way.
        w.add_annotations([text(2, 2)], 2)
    w.database.close()
    assert commandline("doctor", "--repair", "--config", str(root)) == 0
    w = workspace(root)
    assert sorted(rows_of(w)["annotations"]) == sorted(before["annotations"])
    w.database.close()


def test_no_flip_of_a_bit_goes_unnoticed(root: Path) -> None:
    w = workspace(root)
    shard = w.records.shards("annotations")[0]
    file = root / shard.name
    content, before = file.read_bytes(), w.annotations(round=1).rows()
    unnoticed = []
    for place in np.random.default_rng(0).choice(len(content) * 8, 300, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        try:
            w.annotations(round=1)
            unnoticed.append(place)
        except ShardDamaged:
            continue
    assert unnoticed == []
    file.write_bytes(content)
    assert w.annotations(round=1).rows() == before
    w.database.close()


def test_a_panic_of_polars_is_an_error_of_ours(tmp_path: Path) -> None:
    """Of files without a checksum. A panic is no Exception, and would pass every handler."""
    file, raised = tmp_path / "x.parquet", set()
    pl.DataFrame({"id": ["a", "b"]}).write_parquet(file, compression="uncompressed")
    content = file.read_bytes()
    for place in (257, 260, 281, 284, 485, 1424, 1700, 1701):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        with pytest.raises(BorderError, match="damaged") as error:
            collect(scan([file], {"id": pl.String()}, {}), [file], tmp_path)
        raised.add(type(error.value.__cause__).__name__)
    assert "PanicException" in raised


def test_a_damaged_shard_is_named_and_given_up(
    root: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    w = workspace(root)
    damaged, whole = (w.records.shards(kind)[0].name for kind in ("clips", "annotations"))
    w.database.close()
    content = bytearray((root / damaged).read_bytes())
    content[60] ^= 4
    (root / damaged).write_bytes(content)
    w = workspace(root)
    status = status_of(w)
    assert (status.annotations, status.corrections) == (22, 1)
    assert damaged in str(status)
    assert status.clips == {"unread": 3}
    [fault] = health_of(w).faults
    assert fault.shard.name == damaged
    w.database.close()
    with pytest.raises(UserError, match="is whole"):
        doctor.give_up(root, [whole])
    with pytest.raises(UserError, match="no shard of this workspace"):
        doctor.give_up(root, ["clips/part-0.parquet"])
    assert commandline("doctor", "--give-up", damaged, "--config", str(root)) == 0
    w = workspace(root)
    with w.lock():
        assert (w.clips().height, w.annotations().height) == (0, 22)
        assert status_of(w).clips == {}
        assert w.known_contents(["h0"]) == set(), "its file may come again"
        assert w.add_clips([clip(1)]) == 1
    assert bytes(content) in {path.read_bytes() for path in (root / "lost").rglob("part-*")}
    w.database.close()
    capsys.readouterr()
    assert repair_database(root).lines == ["The database knows all records; nothing was changed."], "not taken in again"
    w = workspace(root)
    assert health_of(w).faults == ()
    [line] = given_up(w)
    assert f"{damaged} (3 clips)" in line
    w.database.close()


def test_texts_that_came_with_the_videos_come_again(
    make_workspace: Callable[..., Workspace], corpus: Path, tmp_path: Path
) -> None:
    """Of a shard that was given up: by the same ingest, as what models wrote is written by the same annotate."""
    source = tmp_path / "some"
    source.mkdir()
    for file in [file for file in sorted((corpus / "corpus").iterdir()) if file.read_bytes()][:8]:
        shutil.copy(file, source)
    w = make_workspace()
    with w.lock():
        ingest(w, [str(source)])
        before = w.annotations().sort("id")
        [shard] = w.records.shards("annotations")
        (w.root / shard.name).unlink()
        status = status_of(w)
        assert (status.annotations, status.transcripts) == (before.height, None)
        assert f"annotations: {before.height} that came with the videos or were written by models" in str(status)
        give_up(w, shard.name)
        assert w.annotations().is_empty()
        again = ingest(w, [str(source)])
        assert (again.clips, again.known) == (0, w.clips().height)
    assert before.height > 1
    assert w.annotations().sort("id").equals(before)


def test_shards_of_older_layouts_get_a_checksum(root: Path) -> None:
    w = workspace(root)
    with w.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE shards SET crc32 = NULL")
    assert health_of(w).faults == ()
    shards = w.records.shards("annotations")
    assert all(shard.crc32 is not None for shard in shards)
    (root / shards[0].name).unlink()
    assert "missing" in fault_of(w, shards[0])
    w.database.close()
