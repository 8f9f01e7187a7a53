"""Several processes on one workspace: each part of a pass is one's, and a key is written once whoever is late."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sql

from flywheel.core.errors import BorderError, UserError
from flywheel.store import Workspace, claims, records, schema
from flywheel.store.claims import Claims, forget
from tests.store.test_compaction import text

Make = Callable[..., Workspace]


def test_a_key_that_another_process_commits_meanwhile_is_written_once(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, other = make_workspace(), make_workspace()
    write = records.write_shard

    def late(*arguments: object) -> int:
        """The other one commits while this one's file is being written."""
        monkeypatch.setattr(records, "write_shard", write)
        other.add_annotations([text(1)], 1)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(records, "write_shard", late)
    assert w.add_annotations([text(0), text(1), text(2)], 1) == 2
    assert sorted(w.annotations()["id"]) == sorted(text(number).id for number in range(3))
    assert len(list((w.root / "annotations").rglob("part-*"))) == 2, "what could not be committed left a file"


def test_a_row_that_is_refused_for_an_empty_cell_is_not_taken_for_one_that_is_there(make_workspace: Make) -> None:
    w = make_workspace()
    w.set_meta("x", "1")
    for value, code in ((None, "border"), ("2", "exists")):
        with pytest.raises(BorderError) as refused, w.database.transaction() as connection:
            connection.execute(sql.insert(schema.meta).values(key="x" if value else "y", value=value))
        assert refused.value.code == code


def test_costs_of_two_processes_add_up(make_workspace: Make) -> None:
    w, other = make_workspace(), make_workspace()
    for workspace, money in ((w, 1.0), (other, 2.0), (w, 4.0)):
        workspace.ledger.add_cost(1, "caption", "learn", {"money": money, "written": 1})
    assert w.ledger.cost(1, "caption") == {"money": 7.0, "written": 3}


def test_the_parts_of_a_process_that_fell_silent_go_to_another(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database's clock: that of a host may be wrong by years."""
    w, other = make_workspace(), make_workspace()
    monkeypatch.setattr(claims, "_LOOK_EVERY_S", 0.02)
    silent = Claims(other, "1:caption", 40, size=16, lease_s=0.3)

    def lost() -> None:
        raise BorderError("the connection is lost")

    monkeypatch.setattr(silent, "renew", lost)
    theirs = silent.parts()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 4e9)
        assert next(theirs) == slice(0, 16)
        mine = Claims(w, "1:caption", 40, size=16, lease_s=0.3).parts()
        assert [next(mine), next(mine)] == [slice(16, 32), slice(32, 48)]
        began = time.monotonic()
        assert next(mine) == slice(0, 16)
        assert time.monotonic() - began < 5
    assert list(mine) == []
    assert list(theirs) == [], "and it was done when the other came back"
    forget(w, "1:")
    assert next(Claims(w, "1:caption", 40, size=16, lease_s=0.3).parts()) == slice(0, 16)


def test_who_shares_and_who_writes_alone_keep_each_other_out(make_workspace: Make) -> None:
    w, other = make_workspace(), make_workspace()
    with w.share(), other.share():
        assert w.is_locked()
        with pytest.raises(UserError, match="in use"), make_workspace().lock():
            pass
    with w.lock(), pytest.raises(UserError, match="in use"), other.share():
        pass
    with other.lock():
        pass
