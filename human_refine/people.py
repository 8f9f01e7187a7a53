"""Who may refine: names, roles and invite links. A token is shown once and kept as its hash alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.core.types import Correction, content_id
from flywheel.store import View, Workspace
from flywheel.store import schema as db

Role = Literal["refiner", "lead"]
_NAME = re.compile(r"[^\W_][\w .\-]{0,39}")
#: Wrong tokens that an address may try in a minute.
_TRIES_A_MINUTE = 10


@dataclass(frozen=True, kw_only=True)
class Person:
    name: str
    role: Role


def invite(workspace: Workspace, name: str, role: str) -> str:
    """A token for this person; an earlier one of the same name ends. Raises UserError for a name or role that can't be."""
    if role not in get_args(Role):
        raise UserError(f"--role {role}: unknown. There are {', '.join(get_args(Role))}.")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r}: needs 1 to 40 letters, digits, blanks, dots or dashes, beginning with a letter or digit."
        )
    token = secrets.token_urlsafe(32)
    values = {"role": role, "token_hash": _hash(token), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    with workspace.database.transaction() as connection:
        if not connection.execute(sql.update(db.refiners).where(db.refiners.c.name == name).values(**values)).rowcount:
            connection.execute(sql.insert(db.refiners).values(name=name, **values))
    return token


def person_of(workspace: Workspace, token: str) -> Person | None:
    """Whose token this is."""
    query = sql.select(db.refiners.c.name, db.refiners.c.role).where(db.refiners.c.token_hash == _hash(token))
    with workspace.database.transaction() as connection:
        row = connection.execute(query).first()
    if row is not None and row.name in excluded(workspace):
        return None
    return Person(name=row.name, role=row.role) if row else None


def leads(workspace: View) -> frozenset[str]:
    """Names of those whose word decides; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return frozenset(workspace.snapshot.leads)
    with workspace.database.transaction() as connection:
        return frozenset(
            connection.execute(sql.select(db.refiners.c.name).where(db.refiners.c.role == "lead")).scalars()
        )


def exclude(workspace: Workspace, name: str, reason: str, *, undo: bool = False) -> None:
    """Leave a refiner's words out of all that is learned and measured, from now on, and close the page to that one; ``undo`` takes them in again.
    Nothing is deleted. Raises UserError for a name that never spoke and was not invited."""
    with workspace.database.transaction() as connection:
        spoke = connection.execute(
            sql.select(db.corrections.c.id).where(db.corrections.c.refiner == name).limit(1)
        ).first()
        known = connection.execute(sql.select(db.refiners.c.name).where(db.refiners.c.name == name)).first()
        if spoke is None and known is None:
            raise UserError(f"exclude: there is no refiner '{name}'.")
        at = datetime.now(UTC).isoformat()
        row = {
            "id": content_id("exclude", name, undo, at),
            "refiner": name,
            "excluded": not undo,
            "reason": reason,
            "at": at,
        }
        connection.execute(sql.insert(db.exclusions).values(**row))


def excluded(workspace: View) -> frozenset[str]:
    """Names of those whose words are left out; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return frozenset(workspace.snapshot.excluded)
    query = sql.select(db.exclusions.c.refiner, db.exclusions.c.excluded).order_by(
        db.exclusions.c.at, db.exclusions.c.id
    )
    with workspace.database.transaction() as connection:
        newest = {row.refiner: row.excluded for row in connection.execute(query)}
    return frozenset(name for name, out in newest.items() if out)


def heard(workspace: View) -> list[Correction]:
    """All corrections but those of excluded refiners, oldest first: what counts."""
    out = excluded(workspace)
    return [c for c in workspace.correction_records() if c.refiner not in out]


def csrf_of(token: str) -> str:
    """What a page that was served to the holder of the token knows, and a foreign page does not."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _hash(token: str) -> str:
    # Tokens are 256 random bits: there is nothing to guess that a slow hash would protect.
    return hashlib.sha256(token.encode()).hexdigest()


class Tries:
    """Wrong tokens by address, within the last minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: OrderedDict[str, list[float]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        with self._lock:
            return len(self._recent(address)) >= _TRIES_A_MINUTE

    def note(self, address: str) -> None:
        with self._lock:
            self._at[address] = [*self._recent(address), time.monotonic()]
            self._at.move_to_end(address)
            while len(self._at) > 10_000:
                self._at.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        return [at for at in self._at.get(address, ()) if at > time.monotonic() - 60]
