"""The SQL side of a workspace: which record keys exist and in which shard, corrections, rounds and their stages.

SQLite in WAL mode by default, any SQLAlchemy URL otherwise. This module is the border to SQL: what it raises is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from flywheel.core.errors import BorderError, UserError

metadata = sql.MetaData()

#: Layout of the database; a later layout brings its migration.
SCHEMA_VERSION = 2

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
    sql.Column("at", sql.String, nullable=False),
)  # fmt: skip

#: Who may refine. The token itself is nowhere: only its hash.
refiners = sql.Table(
    "refiners", metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("role", sql.String, nullable=False),
    sql.Column("token_hash", sql.String, nullable=False, unique=True),
    sql.Column("at", sql.String, nullable=False),
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
)  # fmt: skip


#: Layout -> what brings it to the next one. New tables need nothing: they are made where they are missing.
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE corrections ADD COLUMN payload TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX IF NOT EXISTS ix_corrections_refiner ON corrections (refiner)",
    )
}


class Database:
    """One engine, translated errors, and the transaction as the only way in."""

    def __init__(self, url: str) -> None:
        self.engine = sql.create_engine(url)
        if self.engine.dialect.name == "sqlite":

            @sql.event.listens_for(self.engine, "connect")
            def _set_up(connection, _record) -> None:  # type: ignore[no-untyped-def]
                # WAL lets readers go on beside the writer; FULL makes an acknowledged commit survive a power cut.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA busy_timeout=20000")

        with self.transaction() as connection:
            metadata.create_all(connection)
            version = sql.select(meta.c.value).where(meta.c.key == "schema_version")
            found = connection.execute(version).scalar()
            if found is None:
                connection.execute(sql.insert(meta).values(key="schema_version", value=str(SCHEMA_VERSION)))
            elif int(found) > SCHEMA_VERSION:
                raise UserError(
                    f"flywheel.db: layout {found}, this version reads layout {SCHEMA_VERSION}. Use the version that made it."
                )
            elif int(found) < SCHEMA_VERSION:
                # Taking the write lock first: of two processes that open an old workspace one migrates.
                connection.execute(sql.update(meta).where(meta.c.key == "schema_version").values(value=meta.c.value))
                for layout in range(int(connection.execute(version).scalar_one()), SCHEMA_VERSION):
                    for statement in _MIGRATIONS[layout]:
                        connection.execute(sql.text(statement))
                connection.execute(sql.update(meta).where(meta.c.key == "schema_version").values(value=str(SCHEMA_VERSION)))

    @contextmanager
    def transaction(self) -> Iterator[sql.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            text = str(error.orig)
            if "full" in text or "disk I/O" in text:
                raise BorderError(f"flywheel.db: can't write ({text}). Free space on the disk and run the same command.") from error
            raise BorderError(f"flywheel.db: {text}. Check that the database is there and writable.") from error
        except SQLAlchemyError as error:
            raise BorderError(f"flywheel.db: {error}.") from error

    def close(self) -> None:
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
