"""The database on PostgreSQL, and the way there: what SQLite never meets.
Its other tests run on both (`make test-postgres`)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql

from flywheel.core.config import template
from flywheel.core.errors import BorderError, UserError
from flywheel.core.types import Annotation, Correction
from flywheel.store import Workspace, schema
from flywheel.store.database import Database

pytestmark = pytest.mark.slow


def _filled(folder: Path) -> Workspace:
    Workspace.create(folder, template())
    w = Workspace.open(folder, ["tracking.enabled=false"])
    for round in (1, 2):
        w.add_annotations(
            [
                Annotation(
                    id=f"a{round}{i}",
                    round=round,
                    kind="caption",
                    clip_id=f"c{i}",
                    generation_id="",
                    source="model",
                    text=f"text {i}",
                    mean_logprob=-1.0,
                )
                for i in range(3)
            ],
            round,
        )
    w.add_corrections(
        [
            Correction(
                id="k",
                annotation_id="a10",
                clip_id="c0",
                verdict="edit",
                text="ein Hündchen",
                refiner="r",
                at=datetime(2026, 1, 2, tzinfo=UTC),
            )
        ]
    )
    w.set_stage(1, "annotate", "done", {"by": 0}, 2.5)
    w.promote(1, "better")
    return w


def test_a_workspace_moves_and_nothing_is_lost(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    w, url = _filled(tmp_path / "w"), postgresql()
    before = (
        w.annotations().to_dicts(),
        w.corrections().to_dicts(),
        w.stage(1, "annotate"),
        w.stages_s(1),
        w.champion(),
    )
    w.database.close()
    command = [sys.executable, "-m", "flywheel.cli"]
    moved = subprocess.run([*command, "move-database", url, "--config", str(w.root)], capture_output=True, text=True)
    assert moved.returncode == 0, moved.stderr
    stale = subprocess.run([*command, "status", "--config", str(w.root)], capture_output=True, text=True)
    assert stale.returncode == 2
    assert "was moved to" in stale.stderr, "the old database is not used by mistake"
    again = Workspace.open(w.root, [f"store.database={url}"])
    after = (
        again.annotations().to_dicts(),
        again.corrections().to_dicts(),
        again.stage(1, "annotate"),
        again.stages_s(1),
        again.champion(),
    )
    assert after == before
    again.promote(2, "better still")
    assert again.champion() == 2, "new rows come after those that were taken along"
    with pytest.raises(UserError, match="holds rows already"):
        _filled(tmp_path / "other").move_database(url)
    again.database.close()


def test_a_database_is_one_workspaces(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    url = postgresql()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        Workspace.create(folder, template())
    Workspace.open(first, [f"store.database={url}"]).database.close()
    Workspace.open(first, [f"store.database={url}"]).database.close()
    with pytest.raises(UserError, match="belongs to another workspace"):
        Workspace.open(second, [f"store.database={url}"])
    filled = _filled(tmp_path / "filled")
    with pytest.raises(UserError, match="move-database"):
        Workspace.open(filled.root, [f"store.database={postgresql()}"])


def test_who_holds_it_elsewhere_is_met(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    Workspace.create(tmp_path / "w", template())
    w = Workspace.open(tmp_path / "w", [f"store.database={postgresql()}"])
    other = Workspace.open(tmp_path / "w", [f"store.database={w.config.store.database}"])
    with other.database.exclusive() as alone:
        assert alone
        with pytest.raises(UserError, match="on another machine"), w.lock():
            pass
    with w.lock():
        pass
    for one in (w, other):
        one.database.close()


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("nonsense", UserError, "no database URL"),
        ("mysql://me@there/that", UserError, "not installed|not known"),
        ("postgresql://me:secret@127.0.0.1:9/that", BorderError, "127.0.0.1:9/that"),
    ],
)
def test_urls_that_can_not_be(tmp_path: Path, url: str, error: type[Exception], says: str) -> None:
    Workspace.create(tmp_path / "w", template())
    with pytest.raises(error, match=says) as found:
        Workspace.open(tmp_path / "w", [f"store.database={url}"])
    assert "secret" not in str(found.value)


def test_a_new_database_has_the_tables_of_the_schema(tmp_path: Path) -> None:
    """Its statements are kept as words; SQLAlchemy makes the others from the schema itself."""
    other = sql.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    schema.metadata.create_all(other)
    other.dispose()
    made = []
    for name in ("new.db", "other.db"):
        Database(f"sqlite:///{tmp_path / name}").close()
        with closing(sqlite3.connect(tmp_path / name)) as there:
            rows = there.execute("SELECT type, name, replace(sql, 'IF NOT EXISTS ', '') FROM sqlite_master").fetchall()
        made.append({(kind, table, " ".join((text or "").split())) for kind, table, text in rows})
    assert made[0] == made[1] != set()
