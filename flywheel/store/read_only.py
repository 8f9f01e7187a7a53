"""SQLite where nothing can be written: a read-only folder, or a full disk, can still be looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import weakref
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.store.database import Database, NoTables, sqlite_url
from flywheel.store.mark import Home


def open_local(file: Path, home: Home | None) -> Database:
    """The SQLite database of a workspace's folder; to be read only where nothing can be written.

    Raises what :class:`Database` raises.
    """
    if file.exists() and not os.access(file.parent, os.W_OK):
        return _to_read(file, home, f"{file.parent}: can only be read. Make it writable, and run the same command.")
    try:
        return Database(sqlite_url(file), home)
    except BorderError as error:
        if error.code != "full" or not file.exists():
            raise
        try:
            return _to_read(file, home, str(error))
        except NoTables:
            # A new workspace: there is nothing to look at yet, and the disk is what is to be told of.
            raise error from None


def _to_read(file: Path, home: Home | None, why: str) -> Database:
    """Open what is there without writing a byte beside it."""
    if home is not None:
        home.refuse_missing(file)
    if _answers(live := _url(file)):
        # Another process has it open, and with it the index of the log.
        return Database(live, home, read_only=why)
    log = Path(f"{file}-wal")
    if not log.exists() or not log.stat().st_size:
        return Database(_url(file, immutable="1"), home, read_only=why)
    # The log of a process that was killed can't be read without its index, which would have to be written.
    folder = Path(tempfile.mkdtemp(prefix="flywheel-"))
    for path in (file, log):
        shutil.copy(path, folder / path.name)
    database = Database(sqlite_url(folder / file.name), home, read_only=why)
    weakref.finalize(database, shutil.rmtree, folder, ignore_errors=True)
    return database


def _url(file: Path, **options: str) -> sql.URL:
    return sql.URL.create("sqlite", database=f"file:{quote(str(file))}", query={"mode": "ro", "uri": "true", **options})


def _answers(url: sql.URL) -> bool:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(_plain(url), uri=True)) as connection:
        connection.execute("SELECT count(*) FROM meta").fetchone()
        return True
    return False


def _plain(url: sql.URL) -> str:
    return f"{url.database}?mode=ro"
