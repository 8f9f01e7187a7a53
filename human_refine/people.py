"""Who may refine: names, roles and invite links. A token is shown once and kept as its hash alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from flywheel.core.errors import UserError
from flywheel.core.types import Correction
from flywheel.store import View, Workspace
from flywheel.store import people as table

Role = Literal["refiner", "lead"]
_NAME = re.compile(r"[^\W_][\w .\-]{0,39}")
#: Wrong tokens that an address may try in a minute.
_ATTEMPTS_A_MINUTE, _ATTEMPTS_COUNT_S = 10, 60.0
#: Wrong tokens that are kept of all addresses.
_MOST_ATTEMPTS = 10_000
#: How long a session lasts: a month.
SESSION_S = 30 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who may use the page."""

    name: str
    role: Role


def invite(workspace: Workspace, name: str, role: str | None = None) -> str:
    """Makes a token for this person; an earlier one of the same name ends.

    Without a role who was invited before keeps theirs, and others become refiners: a lead's words decide, those given
    before too. Raises UserError for a name or role that can't be.
    """
    role = role or table.role_of(workspace, name) or "refiner"
    if role not in get_args(Role):
        raise UserError(f"--role {role}: unknown. There are {', '.join(get_args(Role))}.")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r}: needs 1 to 40 letters, digits, blanks, dots or dashes, beginning with a letter or digit."
        )
    token = secrets.token_urlsafe(32)
    table.put_refiner(workspace, name, role, _hash(token))
    return token


def person_of(workspace: Workspace, token: str) -> Person | None:
    """The holder of this token; None where there is none, or where that person is excluded."""
    return _person(workspace, table.refiner_with_token(workspace, _hash(token)))


def _person(workspace: Workspace, holder: tuple[str, str] | None) -> Person | None:
    if holder is None or holder[0] in excluded(workspace):
        return None
    name, role = holder
    return Person(name=name, role="lead" if role == "lead" else "refiner")


def sign_in(workspace: Workspace, token: str) -> str | None:
    """Opens a session for the holder of a token; returns what its cookie holds, None where nobody holds the token."""
    person = person_of(workspace, token)
    if person is None:
        return None
    session = secrets.token_urlsafe(32)
    table.add_session(workspace, _hash(session), person.name, _hash(token), time.time() + SESSION_S)
    return session


def person_in(workspace: Workspace, session: str) -> Person | None:
    """Whose session it is; None where it has ended, or its person was invited anew or excluded."""
    holder = table.refiner_in_session(workspace, _hash(session), time.time()) if session else None
    return _person(workspace, holder)


def sign_out(workspace: Workspace, session: str) -> bool:
    """Ends a session; returns whether there was one."""
    return bool(session) and table.end_session(workspace, _hash(session))


def leads(workspace: View) -> frozenset[str]:
    """Names of the leads, whose corrections decide; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return frozenset(workspace.snapshot.leads)
    return table.names_with_role(workspace, "lead")


def exclude(workspace: Workspace, name: str, reason: str, *, undo: bool = False) -> None:
    """Leaves a refiner's corrections out of all that is learned and measured, and closes the page to that person.

    ``undo`` takes them in again; nothing is deleted. Raises UserError for a name that never spoke and was not invited.
    """
    if not table.is_refiner(workspace, name):
        raise UserError(f"exclude: there is no reviewer '{name}'.")
    table.add_exclusion(workspace, name, excluded=not undo, reason=reason)


def excluded(workspace: View) -> frozenset[str]:
    """Names of the refiners that are left out; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return frozenset(workspace.snapshot.excluded)
    return table.excluded_names(workspace)


def active_corrections(workspace: View) -> list[Correction]:
    """All corrections but those of excluded refiners, oldest first: the ones that count."""
    left_out = excluded(workspace)
    return [c for c in workspace.correction_records() if c.refiner not in left_out]


def csrf_of(session: str) -> str:
    """The word that a page served within a session sends with each change, and a foreign page can't know."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def _hash(token: str) -> str:
    # Tokens are 256 random bits: there is nothing to guess that a slow hash would protect.
    return hashlib.sha256(token.encode()).hexdigest()


class LoginAttempts:
    """Counts wrong tokens by address within the last minute, in the database: one count for all servers."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def too_many(self, address: str) -> bool:
        """Whether this address has used up its attempts."""
        return table.count_attempts(self._workspace, address) >= _ATTEMPTS_A_MINUTE

    def note(self, address: str) -> None:
        """Counts one more wrong token."""
        table.note_attempt(self._workspace, address, _ATTEMPTS_COUNT_S, _MOST_ATTEMPTS)
