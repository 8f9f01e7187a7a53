"""A database made again from the records, as far as these tell: a lost or old one goes on, and nothing is deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from flywheel.core.config import load_config
from flywheel.core.errors import BorderError, UserError
from flywheel.store import schema
from flywheel.store.adopting import adopt
from flywheel.store.columns import SCHEMAS
from flywheel.store.database import parts
from flywheel.store.locking import hold_folder
from flywheel.store.lost import FOLDER
from flywheel.store.mark import Home
from flywheel.store.shards import POLARS_ERRORS
from flywheel.store.workspace import Workspace

#: What the records alone tell, and what is no matter of words and rounds.
_NOT_SALVAGED = ("meta", "shards", "keys", "superseded", "leases")
_GONE = (
    "Not in the records, and not made again: who was invited, gold, takedowns, exclusions, which rounds began and what "
    "came of them, champions, costs, exports, and words said since the last gate. Bring back a copy of the database "
    "if there is one, and run this again."
)
_BAD_ROWS = (BorderError, SQLAlchemyError, ValueError, TypeError)


@dataclass(kw_only=True)
class Repair:
    """What a repair did, line by line."""

    lines: list[str] = field(default_factory=list)


def repair_database(config: Path) -> Repair:
    """Bring a workspace's database to what its records say; the same again changes nothing.

    A SQLite file that is no database of these records is moved into ``lost/``, what can be read of it is taken over,
    and the rest is made from the shards. Raises UserError while another process writes, or where another workspace's
    database of a server is named.
    """
    file = config / "flywheel.yaml" if config.is_dir() else config
    root, repair = file.parent.resolve(), Repair()
    with hold_folder(root):
        aside = None
        if not load_config(file).store.database:
            aside = _set_database_aside(root, repair)
        workspace = Workspace.open(file, check=False)
        try:
            _rebuild(workspace, aside, repair)
        finally:
            workspace.database.close()
    return repair


def _rebuild(workspace: Workspace, aside: Path | None, repair: Repair) -> None:
    home, database = Home(workspace.root), workspace.database
    mark, (identity, _) = home.mark(), database.state()
    if mark is not None and mark.database != identity and aside is None and not database.is_empty():
        raise UserError(f"{database.name}: another workspace's. Name this one's, or an empty one, in store.database.")
    was_empty = database.is_empty()
    if aside is not None:
        repair.lines += salvage(aside, workspace)
    for kind in SCHEMAS:
        repair.lines += adopt(workspace, kind)
    workspace.settle_ingested()
    repair.lines += _words_of_snapshots(workspace)
    database.home = home
    with database.change():
        pass
    if not repair.lines:
        repair.lines.append("The database knows all records; nothing was changed.")
    elif was_empty:
        repair.lines.append(_GONE)


def _set_database_aside(root: Path, repair: Repair) -> Path | None:
    """Move a SQLite file that can't be used into ``lost/``; returns where it is now, None where it is in use."""
    file = root / "flywheel.db"
    why = _unusable(file, Home(root))
    if not why:
        return None
    number = 1
    while (folder := root / FOLDER / f"database-{number}").exists():
        number += 1
    files = [path for end in ("", "-wal", "-shm") if (path := Path(f"{file}{end}")).exists()]
    if files:
        folder.mkdir(parents=True)
        for path in reversed(files):
            path.replace(folder / path.name)
        repair.lines.append(f"{file}: {why}; moved to {folder}")
    else:
        repair.lines.append(f"{file}: {why}; made anew")
    return folder / file.name


def _unusable(file: Path, home: Home) -> str:
    """Why a SQLite file can't go on as the database of these records; empty where it can."""
    if not file.exists():
        return "missing"
    if not file.stat().st_size:
        return "empty"
    try:
        with closing(sqlite3.connect(file)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                return "damaged"
            meta: dict[str, str] = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.Error as error:
        return "holds no tables" if "no such table" in str(error) else f"damaged ({error})"
    mark, identity = home.mark(), meta.get(schema.IDENTITY)
    if mark is not None and identity not in (None, mark.database):
        return "another workspace's"
    return ""


def salvage(file: Path, workspace: Workspace) -> list[str]:
    """Take over what can be read of a damaged database: people's words, rounds, champions and the like."""
    lines: list[str] = []
    if not file.exists() or not file.stat().st_size:
        return lines
    mark = Home(workspace.root).mark()
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                owner = dict(connection.execute("SELECT key, value FROM meta").fetchall()).get(schema.IDENTITY)
            except sqlite3.Error:
                owner = None
            if mark is not None and owner not in (None, mark.database):
                return lines
            for table in schema.metadata.sorted_tables:
                if table.name not in _NOT_SALVAGED:
                    lines += _salvage_table(workspace, table, connection)
    except sqlite3.Error:
        return lines
    return lines


def _salvage_table(workspace: Workspace, table: sql.Table, connection: sqlite3.Connection) -> list[str]:
    count = 0
    for rows in parts(_readable(connection, table)):
        try:
            count += _insert(workspace, table, rows)
        except _BAD_ROWS:
            count += sum(_insert_one(workspace, table, row) for row in rows)
    return [f"{table.name}: {count} rows taken over from the database that was set aside"] if count else []


def _insert(workspace: Workspace, table: sql.Table, rows: list[dict[str, Any]]) -> int:
    with workspace.database.transaction() as target:
        return workspace.database.insert_new(target, table, rows)


def _insert_one(workspace: Workspace, table: sql.Table, row: dict[str, Any]) -> int:
    try:
        return _insert(workspace, table, [row])
    except _BAD_ROWS:
        # A damaged cell; the others may be whole.
        return 0


def _readable(connection: sqlite3.Connection, table: sql.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table up to the first page that can't be read."""
    names = {column.name for column in table.columns}
    try:
        for row in connection.execute(f'SELECT * FROM "{table.name}"'):
            yield {name: row[name] for name in row.keys() if name in names}  # noqa: SIM118
    except sqlite3.Error:
        return


def _words_of_snapshots(workspace: Workspace) -> list[str]:
    """Take over corrections that were copied at the gates and are in no table any more."""
    count = 0
    for file in sorted((workspace.root / "snapshots").glob("round=*/corrections.parquet")):
        try:
            rows = pl.read_parquet(file, hive_partitioning=False, glob=False).to_dicts()
        except (OSError, *POLARS_ERRORS):
            continue
        gone = set(workspace.taken_down())
        rows = [row for row in rows if row["clip_id"] not in gone]
        with workspace.database.change() as (connection, _):
            count += workspace.database.insert_new(connection, schema.corrections, rows)
    return [f"corrections: {count} taken over from the copies made at gates"] if count else []
