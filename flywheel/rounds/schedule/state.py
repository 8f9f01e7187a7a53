"""What a schedule keeps in the workspace's database, so that one that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from flywheel.core.errors import UserError
from flywheel.store import Workspace

_KEY = "schedule"
_LOCK = ".schedule.lock"

Phase = Literal["idle", "running", "waiting", "busy"]


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The corrections that a round waits for: it has ``have`` of ``wanted``."""

    round: int
    have: int
    wanted: int


@dataclass(frozen=True, kw_only=True)
class State:
    """Where the schedule stands.

    ``phase`` is idle, running, waiting (for corrections) or busy (another process holds the workspace) since ``since``.
    ``handled`` is the newest time that gave a run. ``go_on`` says that the run must not wait for corrections.
    ``notified`` is the wait that the hook was told of last. Times are ISO 8601.
    """

    cron: str = ""
    handled: str = ""
    phase: Phase = "idle"
    since: str = ""
    message: str = ""
    go_on: bool = False
    notified: Wait | None = None


def state_of(workspace: Workspace) -> State | None:
    """The schedule's state; None where there never was a schedule."""
    raw = workspace.meta(_KEY)
    return None if raw is None else _state_from(json.loads(raw))


def _state_from(record: Mapping[str, Any]) -> State:
    # Earlier versions kept a field more.
    names = {field.name for field in fields(State)}
    values = {name: value for name, value in record.items() if name in names}
    if values.get("notified") is not None:
        values["notified"] = Wait(**values["notified"])
    return State(**values)


def keep_state(workspace: Workspace, state: State) -> None:
    """Write the state down."""
    workspace.set_meta(_KEY, json.dumps(asdict(state)))


def waiting_since(workspace: Workspace, round: int, now: datetime) -> str:
    """When this round began to wait for corrections; ``now``, and on record, where it has not yet."""
    key = f"{_KEY}:waits:{round}"
    # Earlier versions took the round's number from the message.
    since = workspace.meta(key) or workspace.meta(f"{_KEY}:waits:round {round}") or now.isoformat()
    workspace.set_meta(key, since)
    return since


@contextlib.contextmanager
def only_schedule(root: Path) -> Iterator[None]:
    """Hold the workspace's schedule on this machine. Raises UserError ("locked") where another process does."""
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"{root}: has a schedule running already. Stop that one first."
            raise UserError(message, code="locked") from error
        yield
    finally:
        os.close(descriptor)


def is_running(root: Path) -> bool:
    """Whether a process holds the workspace's schedule."""
    try:
        descriptor = os.open(root / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared: two that look at once must not take each other for the schedule.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
