"""Who may refine, and whose corrections are left out: the tables of names, roles, token hashes and exclusions."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import sqlalchemy as sql

from flywheel.core.types import content_id
from flywheel.store import schema as db
from flywheel.store.times import time_after
from flywheel.store.view import View
from flywheel.store.workspace import Workspace


def put_refiner(workspace: Workspace, name: str, role: str, token_hash: str) -> None:
    """Writes a name's role and token; an earlier token of the same name ends."""
    values = {"role": role, "token_hash": token_hash, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    with workspace.database.change() as (connection, _):
        if not connection.execute(sql.update(db.refiners).where(db.refiners.c.name == name).values(**values)).rowcount:
            connection.execute(sql.insert(db.refiners).values(name=name, **values))


def refiner_with_token(workspace: Workspace, token_hash: str) -> tuple[str, str] | None:
    """Name and role of the holder of a token; None where nobody holds it."""
    query = sql.select(db.refiners.c.name, db.refiners.c.role).where(db.refiners.c.token_hash == token_hash)
    with workspace.database.transaction() as connection:
        row = connection.execute(query).first()
    return (row.name, row.role) if row is not None else None


def add_session(workspace: Workspace, session_hash: str, name: str, token_hash: str, until: float) -> None:
    """Writes a session, which ends at ``until`` (seconds since 1970) or with its token; those that ended go."""
    values = {"id": session_hash, "name": name, "token_hash": token_hash, "until": until}
    with workspace.database.change() as (connection, _):
        connection.execute(sql.delete(db.sessions).where(db.sessions.c.until <= time.time()))
        connection.execute(sql.insert(db.sessions).values(**values))


def refiner_in_session(workspace: Workspace, session_hash: str, now: float) -> tuple[str, str] | None:
    """Name and role of the person whose session runs at ``now``; None where none does, or its token has ended."""
    same = (db.refiners.c.name == db.sessions.c.name) & (db.refiners.c.token_hash == db.sessions.c.token_hash)
    query = sql.select(db.refiners.c.name, db.refiners.c.role).join(db.sessions, same)
    query = query.where(db.sessions.c.id == session_hash, db.sessions.c.until > now)
    with workspace.database.transaction() as connection:
        row = connection.execute(query).first()
    return (row.name, row.role) if row is not None else None


def end_session(workspace: Workspace, session_hash: str) -> bool:
    """Ends a session; returns whether there was one."""
    with workspace.database.change() as (connection, _):
        return bool(connection.execute(sql.delete(db.sessions).where(db.sessions.c.id == session_hash)).rowcount)


def note_attempt(workspace: Workspace, address: str, seconds: float, most: int) -> None:
    """Counts a wrong token of an address for so long; old ones go, and the oldest above ``most`` of all addresses."""
    rows = db.attempts
    kept = sql.select(rows.c.until).order_by(rows.c.until.desc()).offset(most).limit(1).scalar_subquery()
    with workspace.database.transaction() as connection:
        now = workspace.database.clock(connection)
        connection.execute(sql.delete(rows).where(rows.c.until <= now))
        connection.execute(sql.insert(rows).values(id=uuid.uuid4().hex, address=address, until=now + seconds))
        connection.execute(sql.delete(rows).where(rows.c.until <= kept))


def count_attempts(workspace: Workspace, address: str) -> int:
    """How many wrong tokens of an address count now."""
    query = sql.select(sql.func.count()).where(db.attempts.c.address == address)
    with workspace.database.transaction() as connection:
        now = workspace.database.clock(connection)
        return int(connection.execute(query.where(db.attempts.c.until > now)).scalar_one())


def names_with_role(workspace: View, role: str) -> frozenset[str]:
    """Names of all refiners with this role."""
    with workspace.database.transaction() as connection:
        return frozenset(connection.execute(sql.select(db.refiners.c.name).where(db.refiners.c.role == role)).scalars())


def all_refiners(workspace: Workspace) -> list[tuple[str, str]]:
    """Name and role of everybody who was invited, by name."""
    query = sql.select(db.refiners.c.name, db.refiners.c.role).order_by(db.refiners.c.name)
    with workspace.database.transaction() as connection:
        return [tuple(row) for row in connection.execute(query)]


def role_of(workspace: Workspace, name: str) -> str | None:
    """The role under which this name was invited; None where it was not."""
    query = sql.select(db.refiners.c.role).where(db.refiners.c.name == name)
    with workspace.database.transaction() as connection:
        role: str | None = connection.execute(query).scalar()
    return role


def is_refiner(workspace: Workspace, name: str) -> bool:
    """Whether this name was invited, or gave a correction."""
    spoke = sql.select(db.corrections.c.id).where(db.corrections.c.refiner == name).limit(1)
    invited = sql.select(db.refiners.c.name).where(db.refiners.c.name == name)
    with workspace.database.transaction() as connection:
        return any(connection.execute(query).first() is not None for query in (spoke, invited))


def add_exclusion(workspace: Workspace, name: str, *, excluded: bool, reason: str) -> None:
    """Adds a row that leaves a name out or takes it in again; the newest row of a name counts."""
    with workspace.database.change() as (connection, _):
        newest = connection.execute(sql.select(sql.func.max(db.exclusions.c.at))).scalar()
        at = time_after(newest)
        row = {
            "id": content_id("exclude", name, not excluded, at),
            "refiner": name,
            "excluded": excluded,
            "reason": reason,
            "at": at,
        }
        connection.execute(sql.insert(db.exclusions).values(**row))


def excluded_names(workspace: View) -> frozenset[str]:
    """Names whose newest exclusion row leaves them out."""
    columns = (db.exclusions.c.refiner, db.exclusions.c.excluded)
    query = sql.select(*columns).order_by(db.exclusions.c.at, db.exclusions.c.id)
    with workspace.database.transaction() as connection:
        newest = {row.refiner: row.excluded for row in connection.execute(query)}
    return frozenset(name for name, excluded in newest.items() if excluded)


def any_invited(workspace: View) -> bool:
    """Whether anybody was invited."""
    with workspace.database.transaction() as connection:
        return connection.execute(sql.select(db.refiners.c.name).limit(1)).first() is not None
