"""A PostgreSQL server of one's own, which can be stopped and started under a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sql


class Server:
    """It listens on no port; its socket lies in a short folder."""

    def __init__(self) -> None:
        initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))
        self._tools = Path(initdb).resolve().parent
        self.folder = Path("/tmp") / f"flywheel-faults-pg-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir()
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            # It does not run as root.
            shutil.chown(self.folder, "postgres")
            self._as_user = ["runuser", "-u", "postgres", "--"]
        self._run(
            "initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8"
        )

    def _run(self, tool: str, *words: str) -> None:
        command = [*self._as_user, str(self._tools / tool), *words]
        nowhere = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=nowhere, stderr=nowhere, cwd=self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a power cut would."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def new(self) -> str:
        """The URL of a new, empty database."""
        name = f"flywheel_{uuid.uuid4().hex[:12]}"
        admin = sql.create_engine(self._url("postgres", "postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sql.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return self._url(name, "postgresql")

    def _url(self, name: str, driver: str) -> str:
        return f"{driver}://postgres@/{name}?host={self.folder}"


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs; it is deleted afterwards, running or not."""
    one = Server()
    one.start()
    try:
        yield one
    finally:
        with suppress(subprocess.CalledProcessError):
            one.stop()
        shutil.rmtree(one.folder, ignore_errors=True)
