"""Choices between two texts, by pair, by person and by id: queries that never read the whole table into objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import sqlalchemy as sql

from flywheel.core.types import Choice, Preference
from flywheel.store import schema as db
from flywheel.store.database import parts
from flywheel.store.leases import holder_within
from flywheel.store.workspace import Workspace

_COLUMNS = [column for column in db.preferences.columns if column.name not in ("pair_id", "change")]


def choices_on(workspace: Workspace, pair_id: str) -> list[Preference]:
    """All choices on one pair, oldest first."""
    return _found(workspace, db.preferences.c.pair_id == pair_id)


def add_checked(
    workspace: Workspace, choice: Preference, lease: str, check: Callable[[list[Preference], str], None]
) -> None:
    """Adds a choice that is made now, unless ``check`` raises for what is on record of its pair.

    It is given the pair's choices and who holds the ``lease`` of that key, as
    :func:`flywheel.store.corrections.add_checked` has it, and waits for nothing either.
    """
    where = db.preferences.c.pair_id == choice.pair_id

    def checked(connection: sql.Connection) -> None:
        check(_rows(connection, where, None), holder_within(workspace, connection, lease))

    workspace.add_preferences([choice], said_now=[choice.id], check=checked)


def choices_of(workspace: Workspace, refiner: str, limit: int) -> list[Preference]:
    """A person's newest choices, skips and what was taken back among them, newest first."""
    return _found(workspace, db.preferences.c.refiner == refiner, limit)


def all_choices(workspace: Workspace) -> list[tuple[str, Choice, str]]:
    """Pair id, choice and refiner of all choices, oldest first."""
    columns = (db.preferences.c.pair_id, db.preferences.c.chosen, db.preferences.c.refiner)
    with workspace.database.transaction() as connection:
        rows = connection.execute(sql.select(*columns).order_by(db.preferences.c.at, db.preferences.c.id))
        return [(row.pair_id, row.chosen, row.refiner) for row in rows]


def known_choice_ids(workspace: Workspace, ids: Iterable[str]) -> set[str]:
    """Which of these choices are on record."""
    column = db.preferences.c.id
    present: set[str] = set()
    with workspace.database.transaction() as connection:
        for part in parts(ids):
            present.update(connection.execute(sql.select(column).where(column.in_(part))).scalars())
    return present


def _found(workspace: Workspace, where: sql.ColumnElement[bool], newest: int | None = None) -> list[Preference]:
    """Rows oldest first; with ``newest`` so many at most, newest first."""
    with workspace.database.transaction() as connection:
        return _rows(connection, where, newest)


def _rows(connection: sql.Connection, where: sql.ColumnElement[bool], newest: int | None) -> list[Preference]:
    times = (db.preferences.c.at, db.preferences.c.id)
    order = times if newest is None else [time.desc() for time in times]
    query = sql.select(*_COLUMNS).where(where).order_by(*order).limit(newest)
    rows = connection.execute(query).mappings().all()
    return [Preference(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]
