"""A database on its way to another place: whatever is killed, nothing is lost, and what was moved takes no words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.core.config import template
from flywheel.core.errors import BorderError, UserError
from flywheel.store import Workspace
from flywheel.store.database import Database, sqlite_url
from tests.store.test_compaction import fill, text
from tests.store.test_view import correction


@pytest.fixture
def w(tmp_path: Path) -> Iterator[Workspace]:
    Workspace.create(tmp_path / "w", template())
    w = Workspace.open(tmp_path / "w")
    fill(w, 9)
    w.add_corrections([correction(0)])
    yield w
    w.database.close()


def die_before_the_mark(patch: pytest.MonkeyPatch) -> type[BaseException]:
    """The rows are committed there, and the mark is not here."""

    class Died(BaseException):
        pass

    replace = Database.replace

    def until_the_mark(self: Database, connection: object, table: object, row: dict[str, object]) -> None:
        if row.get("key") == "moved_to":
            raise Died
        replace(self, connection, table, row)  # type: ignore[arg-type]

    patch.setattr(Database, "replace", until_the_mark)
    return Died


def test_a_move_that_was_killed_is_finished_by_the_same_command(
    w: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path / "there.db")
    with monkeypatch.context() as patch:
        died = die_before_the_mark(patch)
        with pytest.raises(died), w.lock():
            w.move_database(url)
    assert w.meta("moved_to") is None
    # What has no number of its own may have changed.
    w.set_meta("seen", "since")
    with w.lock():
        count = w.move_database(url)
    assert count > 20
    with pytest.raises(UserError, match=r"was moved to"):
        Workspace.open(w.root)
    there = Workspace.open(w.root, [f"store.database={url}"])
    assert (there.annotations().height, there.num_corrections(), there.meta("seen")) == (18, 1, "since")
    with there.lock():
        assert there.add_annotations([text(90)], 1) == 1
    there.database.close()


@pytest.mark.slow
def test_words_that_came_between_are_not_left_behind(
    w: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path / "there.db")
    with monkeypatch.context() as patch:
        died = die_before_the_mark(patch)
        with pytest.raises(died), w.lock():
            w.move_database(url)
    w.add_corrections([correction(1)])
    with pytest.raises(UserError, match=r"from before later changes. Name an empty database"), w.lock():
        w.move_database(url)
    with w.lock():
        w.move_database(sqlite_url(tmp_path / "new.db"))
    there = Workspace.open(w.root, [f"store.database={sqlite_url(tmp_path / 'new.db')}"])
    assert there.num_corrections() == 2
    there.database.close()


def test_what_was_moved_takes_nothing_any_more(w: Workspace, tmp_path: Path) -> None:
    other = Workspace.open(w.root)
    with other.lock():
        other.move_database(sqlite_url(tmp_path / "there.db"))
    other.database.close()
    with pytest.raises(BorderError, match=r"was moved to .*there.db") as raised:
        w.add_corrections([correction(1)])
    assert raised.value.code == "moved"
    assert w.num_corrections() == 1
