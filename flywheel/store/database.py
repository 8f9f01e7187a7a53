"""The SQL side of a workspace: which record keys exist and in which shard, corrections, rounds and their stages.

SQLite in WAL mode by default, PostgreSQL by its URL. This module is the border to SQL: what it raises is ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from flywheel.core.errors import BorderError, UserError

metadata = sql.MetaData()

#: Layout of the database; a later layout brings its migration.
SCHEMA_VERSION = 3

#: Times as text sort as times only byte by byte, which PostgreSQL does not do of itself.
_TIME = sql.String().with_variant(sql.String(collation="C"), "postgresql")

meta = sql.Table(
    "meta", metadata,
    sql.Column("key", sql.String, primary_key=True), sql.Column("value", sql.Text, nullable=False),
)  # fmt: skip

#: A shard is part of the workspace from the moment its row is committed here, not before.
shards = sql.Table(
    "shards", metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("kind", sql.String, nullable=False, index=True),
    sql.Column("round", sql.Integer),
    sql.Column("num_rows", sql.Integer, nullable=False),
    #: Order of the commits.
    sql.Column("position", sql.Integer, nullable=False, server_default="0"),
)  # fmt: skip

#: The unique keys: a record that exists can't be written again, whoever tries.
keys = sql.Table(
    "keys", metadata,
    sql.Column("kind", sql.String, primary_key=True),
    sql.Column("key", sql.String, primary_key=True),
    sql.Column("shard", sql.String, nullable=False),
)  # fmt: skip

#: Where a file's content was last seen: a file that moved is the same clip.
locations = sql.Table(
    "locations", metadata,
    sql.Column("content_hash", sql.String, primary_key=True), sql.Column("uri", sql.Text, nullable=False),
)  # fmt: skip

corrections = sql.Table(
    "corrections", metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("annotation_id", sql.String, nullable=False, index=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("verdict", sql.String, nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("refiner", sql.String, nullable=False, index=True),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("payload", sql.Text, nullable=False, server_default=""),
    sql.Column("at", _TIME, nullable=False),
)  # fmt: skip

#: Who may refine. The token itself is nowhere: only its hash.
refiners = sql.Table(
    "refiners", metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("role", sql.String, nullable=False),
    sql.Column("token_hash", sql.String, nullable=False, unique=True),
    sql.Column("at", sql.String, nullable=False),
)  # fmt: skip

#: Clips whose right text is known, to check refiners with; the newest row of a clip counts.
gold = sql.Table(
    "gold", metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("by", sql.String, nullable=False),
    sql.Column("at", _TIME, nullable=False),
)  # fmt: skip

#: Clips that were taken down, and are refused when they come again; ``usage`` says where they were used, as JSON.
takedowns = sql.Table(
    "takedowns", metadata,
    sql.Column("clip_id", sql.String, primary_key=True),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", _TIME, nullable=False),
    sql.Column("usage", sql.Text, nullable=False),
)  # fmt: skip

#: Datasets that were taken away, and of which clips, as JSON.
exports = sql.Table(
    "exports", metadata,
    sql.Column("out", sql.Text, primary_key=True),
    sql.Column("at", _TIME, nullable=False),
    sql.Column("round", sql.Integer, nullable=False),
    sql.Column("clips", sql.Text, nullable=False),
)  # fmt: skip

#: Refiners whose words are left out, and taken in again; the newest row of a name counts.
exclusions = sql.Table(
    "exclusions", metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("refiner", sql.String, nullable=False),
    sql.Column("excluded", sql.Boolean, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", _TIME, nullable=False),
)  # fmt: skip

#: Which annotation lies before whom, and until when (seconds since 1970).
leases = sql.Table(
    "leases", metadata,
    sql.Column("annotation_id", sql.String, primary_key=True),
    sql.Column("refiner", sql.String, nullable=False, index=True),
    sql.Column("until", sql.Float, nullable=False),
)  # fmt: skip

stages = sql.Table(
    "stages", metadata,
    sql.Column("round", sql.Integer, primary_key=True),
    sql.Column("stage", sql.String, primary_key=True),
    sql.Column("state", sql.String, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False, default=0.0),
    sql.Column("result", sql.Text, nullable=False, default="{}"),
)  # fmt: skip

champions = sql.Table(
    "champions", metadata,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("round", sql.Integer, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", sql.String, nullable=False),
    #: "promote" or "rollback"; ``details`` is what the champion consists of, as JSON.
    sql.Column("action", sql.String, nullable=False, server_default="promote"),
    sql.Column("details", sql.Text, nullable=False, server_default="{}"),
)  # fmt: skip


#: Layout -> what brings it to the next one. New tables need nothing: they are made where they are missing.
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE corrections ADD COLUMN payload TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX IF NOT EXISTS ix_corrections_refiner ON corrections (refiner)",
    ),
    # SQLite alone had layouts before this one.
    2: (
        "ALTER TABLE shards ADD COLUMN position INTEGER NOT NULL DEFAULT 0",
        "UPDATE shards SET position = rowid",
        "ALTER TABLE champions ADD COLUMN action VARCHAR NOT NULL DEFAULT 'promote'",
        "ALTER TABLE champions ADD COLUMN details TEXT NOT NULL DEFAULT '{}'",
    ),
}
#: What a database that was moved says in :data:`meta`.
MOVED_TO = "moved_to"


class Database:
    """One engine, translated errors, and the transaction as the only way in."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sql.make_url(url)
            if parsed.drivername in ("postgresql", "postgres"):
                parsed = parsed.set(drivername="postgresql+psycopg")
            options: dict[str, Any] = {}
            if parsed.get_backend_name() == "postgresql":
                # A server that was started anew, or closed what idled, is met with a new connection; a machine that went
                # down holds its lock for a minute, not for the two hours after which servers ask of themselves.
                options["pool_pre_ping"] = True
                if "options" not in parsed.query:
                    alive = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
                    options["connect_args"] = {"options": alive}
            self.engine = sql.create_engine(parsed, **options)
        except (ArgumentError, NoSuchModuleError) as error:
            raise UserError(
                "store.database: no database URL. Write postgresql://user@host/name, or leave it empty."
            ) from error
        except ModuleNotFoundError as error:
            raise UserError(
                f"store.database: the driver {error.name} is not installed. pip install 'video-dataflywheel[postgres]'."
            ) from error
        #: What errors name: the URL without its password.
        self.name = "flywheel.db" if self.is_sqlite else self.engine.url.render_as_string(hide_password=True)
        if self.engine.dialect.name not in ("sqlite", "postgresql"):
            raise UserError(
                f"store.database: {self.engine.dialect.name} is not known. There are SQLite and PostgreSQL."
            )
        if self.is_sqlite:

            @sql.event.listens_for(self.engine, "connect")
            def _set_up(connection, _record) -> None:  # type: ignore[no-untyped-def]
                # WAL lets readers go on beside the writer; FULL makes an acknowledged commit survive a power cut.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA busy_timeout=20000")
                # What is deleted is overwritten: a text that was taken down does not stay in a free page.
                connection.execute("PRAGMA secure_delete=ON")

        with self.transaction() as connection:
            if not self.is_sqlite:
                # Of two processes that open a new database one makes the tables, the other waits.
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(7021996)"))
            metadata.create_all(connection)
            version = sql.select(meta.c.value).where(meta.c.key == "schema_version")
            found = connection.execute(version).scalar()
            if found is None:
                connection.execute(sql.insert(meta).values(key="schema_version", value=str(SCHEMA_VERSION)))
            elif int(found) > SCHEMA_VERSION:
                raise UserError(
                    f"{self.name}: layout {found}, this version reads layout {SCHEMA_VERSION}. Use the version that made it.",
                    code="newer",
                )
            elif int(found) < SCHEMA_VERSION:
                # Taking the write lock first: of two processes that open an old workspace one migrates.
                connection.execute(sql.update(meta).where(meta.c.key == "schema_version").values(value=meta.c.value))
                for layout in range(int(connection.execute(version).scalar_one()), SCHEMA_VERSION):
                    for statement in _MIGRATIONS[layout]:
                        connection.execute(sql.text(statement))
                connection.execute(
                    sql.update(meta).where(meta.c.key == "schema_version").values(value=str(SCHEMA_VERSION))
                )

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[sql.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            text = " ".join(str(error.orig).split())
            if "full" in text or "disk I/O" in text or "No space left" in text:
                raise BorderError(
                    f"{self.name}: can't write ({text}). Free space on the disk and run the same command."
                ) from error
            raise BorderError(f"{self.name}: {text}. Check that the database is there and writable.") from error
        except SQLAlchemyError as error:
            raise BorderError(f"{self.name}: {' '.join(str(error).split())}.") from error

    def insert_new(self, connection: sql.Connection, table: sql.Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert the rows whose primary key is not there; returns how many were. The database decides, whoever else writes now."""
        insert = sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
        statement = insert.on_conflict_do_nothing().returning(*table.primary_key.columns)
        return len(connection.execute(statement, [dict(row) for row in rows]).all()) if rows else 0

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Whether this process alone may write while the context lasts. SQLite lies in one folder, whose lock says it already;
        PostgreSQL can be written from several machines, and lets go where the holder's connection ends."""
        if self.is_sqlite:
            yield True
            return
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                free = False
                for attempt in range(20):
                    # The server may need a moment to see that a killed holder is gone.
                    time.sleep(0.1 * (attempt > 0))
                    if free := bool(connection.execute(sql.text("SELECT pg_try_advisory_lock(7021997)")).scalar()):
                        break
                try:
                    yield free
                finally:
                    if free:
                        connection.execute(sql.text("SELECT pg_advisory_unlock(7021997)"))
        except SQLAlchemyError as error:
            raise BorderError(f"{self.name}: {' '.join(str(error).split())}.") from error

    def is_empty(self) -> bool:
        with self.transaction() as connection:
            tables = (shards, keys, corrections, stages)
            return not any(connection.execute(sql.select(sql.func.count()).select_from(t)).scalar_one() for t in tables)

    def copy_to(self, other: Database) -> int:
        """All rows into an empty database, in one transaction; returns how many. Raises UserError where the other holds something."""
        if not other.is_empty():
            raise UserError(f"{other.name}: holds rows already. Name an empty database.")
        count = 0
        with self.transaction() as here, other.transaction() as there:
            there.execute(sql.delete(meta))
            for table in metadata.sorted_tables:
                for part in here.execute(sql.select(table)).mappings().partitions(5_000):
                    there.execute(sql.insert(table), [dict(row) for row in part])
                    count += len(part)
                left, came = (
                    c.execute(sql.select(sql.func.count()).select_from(table)).scalar_one() for c in (here, there)
                )
                if left != came:
                    raise BorderError(
                        f"{other.name}: {came} of {left} rows of {table.name} came over. Nothing was kept; try again."
                    )
            if not other.is_sqlite:
                last = there.execute(sql.select(sql.func.max(champions.c.id))).scalar()
                if last:
                    # Rows that came with their ids leave the sequence where it was.
                    there.execute(
                        sql.text("SELECT setval(pg_get_serial_sequence('champions', 'id'), :last)"), {"last": last}
                    )
        return count

    def scrub(self) -> None:
        """Leave nothing of deleted rows in SQLite's log beside the file; PostgreSQL's own vacuum does its part in time."""
        if self.is_sqlite:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def close(self) -> None:
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
