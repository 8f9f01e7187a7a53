"""Leases: which text lies before whom, and until when by the database's clock.

They outlast a process and are the same for all of them, whatever the clock of a server's host says.
"""

from __future__ import annotations

import sqlalchemy as sql

from flywheel.store import schema as db
from flywheel.store.workspace import Workspace

#: What the key of a lease begins with that is of a pair of texts and not of one text.
PAIR = "pair:"


def take_lease(workspace: Workspace, key: str, refiner: str, seconds: float) -> bool:
    """Takes or renews a lease; returns whether it is this person's now.
    One statement decides, whichever process asks."""
    with workspace.database.transaction() as connection:
        now = workspace.database.clock(connection)
        values = {"refiner": refiner, "until": now + seconds}
        free = (db.leases.c.annotation_id == key) & ((db.leases.c.until <= now) | (db.leases.c.refiner == refiner))
        if connection.execute(sql.update(db.leases).where(free).values(**values)).rowcount:
            return True
        return bool(workspace.database.insert_new(connection, db.leases, [{"annotation_id": key, **values}]))


def release_lease(workspace: Workspace, key: str, refiner: str) -> None:
    """Ends a person's lease, where there is one."""
    held = (db.leases.c.annotation_id == key) & (db.leases.c.refiner == refiner)
    with workspace.database.transaction() as connection:
        connection.execute(sql.delete(db.leases).where(held))


def was_last_of(workspace: Workspace, key: str, refiner: str) -> bool:
    """Whether a lease is this person's, or was until it ran out and nobody took it since."""
    query = sql.select(db.leases.c.refiner).where(db.leases.c.annotation_id == key)
    with workspace.database.transaction() as connection:
        return connection.execute(query).scalar() == refiner


def holder_of(workspace: Workspace, key: str) -> str:
    """Name of the person whose lease runs; empty where none does."""
    with workspace.database.transaction() as connection:
        return holder_within(workspace, connection, key)


def holder_within(workspace: Workspace, connection: sql.Connection, key: str) -> str:
    """:func:`holder_of` within a transaction that is open: a second connection might have to wait for it."""
    query = sql.select(db.leases.c.refiner).where(db.leases.c.annotation_id == key)
    now = workspace.database.clock(connection)
    return str(connection.execute(query.where(db.leases.c.until > now)).scalar() or "")


def keys_of(workspace: Workspace, refiner: str, *, pairs: bool = False) -> set[str]:
    """Keys of this person's running leases, of texts or of ``pairs`` of texts."""
    return _running(workspace, db.leases.c.refiner == refiner, pairs)


def keys_of_others(workspace: Workspace, refiner: str, *, pairs: bool = False) -> set[str]:
    """Keys of everybody else's running leases, of texts or of ``pairs`` of texts."""
    return _running(workspace, db.leases.c.refiner != refiner, pairs)


def _running(workspace: Workspace, whose: sql.ColumnElement[bool], pairs: bool) -> set[str]:
    is_pair = db.leases.c.annotation_id.startswith(PAIR)
    which = is_pair if pairs else sql.not_(is_pair)
    query = sql.select(db.leases.c.annotation_id).where(whose, which)
    with workspace.database.transaction() as connection:
        now = workspace.database.clock(connection)
        return set(connection.execute(query.where(db.leases.c.until > now)).scalars())
