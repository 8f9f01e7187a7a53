"""Claims: which process works on which part of a pass, and until when by the database's clock.

They share work out and decide nothing: of two processes that do the same part, each key is still written once. So a
process that was stopped for longer than its lease, or a lost connection, costs time and no record.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import sqlalchemy as sql

from flywheel.core.errors import FlywheelError
from flywheel.core.progress import say
from flywheel.store.database import begins_with
from flywheel.store.schema import claims as rows
from flywheel.store.workspace import Workspace

#: How often a process looks whether the others' parts are done, in seconds.
_LOOK_EVERY_S = 0.5


class Claims:
    """The parts of one pass: ``size`` tasks each, the last one fewer, of ``num_tasks`` that all processes agree on."""

    def __init__(self, workspace: Workspace, name: str, num_tasks: int, *, size: int, lease_s: float) -> None:
        self._db = workspace.database
        #: Parts of another division are others: what changed in between is found by the keys.
        self._name = f"{name}:{num_tasks}:{size}"
        self._size, self._lease_s = size, lease_s
        self.num_parts = -(-num_tasks // size)
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def parts(self) -> Iterator[slice]:
        """Yield the tasks of each part that this process gets, until all parts are done, whoever does them.

        A part counts as done when the next one is asked for. While others hold all that is left, this waits: what one
        of them held when it was killed is given out again once its lease has run out.
        """
        told = False
        with self._kept_alive():
            while True:
                free, held = self._open_parts()
                if not free and not held:
                    return
                if not free:
                    if not told:
                        say(f"{self._name}: waiting for other processes to end their last {held} parts")
                    told = True
                    time.sleep(_LOOK_EVERY_S)
                for part in free:
                    if self._take(part):
                        yield slice(part * self._size, (part + 1) * self._size)
                        self._finish(part)
                        break

    def _open_parts(self) -> tuple[list[int], int]:
        """Parts that nobody does now, in order, and how many others are doing."""
        query = sql.select(rows.c.part, rows.c.until, rows.c.done).where(rows.c.name == self._name)
        with self._db.transaction() as connection:
            now = self._db.clock(connection)
            taken = {part: done for part, until, done in connection.execute(query) if done or until > now}
        return [part for part in range(self.num_parts) if part not in taken], sum(not done for done in taken.values())

    def _take(self, part: int) -> bool:
        """Claim a part; returns whether it is this process's now. One statement decides, whoever else asks."""
        with self._db.transaction() as connection:
            now = self._db.clock(connection)
            values = {"worker": self.worker, "until": now + self._lease_s, "done": False}
            free = self._is(part) & sql.not_(rows.c.done) & (rows.c.until <= now)
            if connection.execute(sql.update(rows).where(free).values(values)).rowcount:
                return True
            return bool(self._db.insert_new(connection, rows, [{"name": self._name, "part": part, **values}]))

    def _finish(self, part: int) -> None:
        with self._db.transaction() as connection:
            connection.execute(sql.update(rows).where(self._is(part)).values(done=True, worker=self.worker))

    def _is(self, part: int) -> sql.ColumnElement[bool]:
        return (rows.c.name == self._name) & (rows.c.part == part)

    def renew(self) -> None:
        """Hold this process's part for another lease."""
        mine = (rows.c.name == self._name) & (rows.c.worker == self.worker) & sql.not_(rows.c.done)
        with self._db.transaction() as connection:
            until = self._db.clock(connection) + self._lease_s
            connection.execute(sql.update(rows).where(mine).values(until=until))

    @contextlib.contextmanager
    def _kept_alive(self) -> Iterator[None]:
        """Renew the claim while this lasts; a process that ended otherwise lets its part go."""
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            with contextlib.suppress(FlywheelError), self._db.transaction() as connection:
                mine = (rows.c.name == self._name) & (rows.c.worker == self.worker) & sql.not_(rows.c.done)
                connection.execute(sql.update(rows).where(mine).values(until=0.0))

    def _beat(self, ended: threading.Event) -> None:
        failures = 0
        while not ended.wait(self._lease_s / 4):
            try:
                self.renew()
                failures = 0
            except FlywheelError as error:
                # The work goes on: at worst another process does this part too, and each key is written once.
                failures += 1
                say(f"{self._name}: the claim could not be renewed, try {failures} ({error})")


def parts_done(workspace: Workspace, beginning: str) -> dict[str, int]:
    """Processes (host, pid and a word of their own) -> parts that each did of passes whose names begin so."""
    query = sql.select(rows.c.worker, sql.func.count()).where(begins_with(rows.c.name, beginning), rows.c.done)
    with workspace.database.transaction() as connection:
        return dict(connection.execute(query.group_by(rows.c.worker)).all())


def forget(workspace: Workspace, beginning: str) -> None:
    """Remove the claims of passes whose names begin so."""
    with workspace.database.transaction() as connection:
        connection.execute(sql.delete(rows).where(begins_with(rows.c.name, beginning)))
