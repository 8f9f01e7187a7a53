"""The border to SQL: one engine, transactions, and errors that are ours.

SQLite in WAL mode by default, PostgreSQL by its URL.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from flywheel.core.errors import BorderError, FlywheelError, UserError
from flywheel.core.progress import say
from flywheel.store import schema
from flywheel.store.mark import Home

T = TypeVar("T")
#: How long a writer waits for another one, in milliseconds (SQLite).
BUSY_MS = 20_000
#: Code of the error for a row whose key is there.
EXISTS = "exists"
#: Values in one ``IN (...)``.
IN_LIST = 500
_DAMAGE = ("no such table", "no such column", "not a database", "malformed")
#: Signs in what databases say, and what to do.
_MENDS = (
    (
        r"password|authentication|role \".*\" does not exist|no pg_hba.conf entry",
        "Put user and password right in store.database, or in ~/.pgpass.",
    ),
    (
        r"database \".*\" does not exist",
        "Make it with 'createdb', or name another in store.database.",
    ),
    (
        r"onnection refused|could not translate host|Name or service not known|No such file|timeout expired|"
        r"No route|Network is unreachable",
        "Check that the server runs, and that store.database names its host and port.",
    ),
    (
        r"too many clients|connection slots|too many connections",
        "Raise the server's max_connections, or end what else is connected.",
    ),
    (r"permission denied|must be owner", "Grant the user of store.database its tables and schema."),
    (
        r"read-only transaction|readonly database",
        "Name the primary server, or a folder that can be written to.",
    ),
    (r"is locked", "Another process writes: wait for it to end, or stop it, and run the same command."),
    (r"SSL", "Set sslmode in store.database to what the server takes."),
)
# Numbers of PostgreSQL's advisory locks: of opening, and of writing.
_OPENING, _WRITING = 7021996, 7021997

# Made once: every change uses them, and making one takes longer than running it.
_LOOK_UP = sql.select(schema.meta.c.value).where(schema.meta.c.key == sql.bindparam("name"))
_COUNT_ON = (
    sql.update(schema.meta)
    .where(schema.meta.c.key == schema.NUMBER)
    .values(value=sql.cast(sql.cast(schema.meta.c.value, sql.BigInteger) + sql.bindparam("count"), sql.Text))
    .returning(schema.meta.c.value)
)


class NoTables(BorderError):
    """A database that nothing can be written to, and that is not a workspace's yet."""


class Database:
    """One engine, translated errors, and the transaction as the only way in."""

    def __init__(self, url: str | sql.URL, home: Home | None = None, *, read_only: str = "") -> None:
        """Open a database, make its tables if it is new, migrate it if it is old.

        ``home`` is the folder whose records it knows: then DatabaseLost is raised where it does not. ``read_only`` says
        why nothing can be written, and what to do; empty where it can.
        """
        self.engine = _engine(url)
        self.home = home
        self._identity = ""
        self.read_only = read_only
        #: What errors name: the URL without its password.
        self.name = "flywheel.db" if self.is_sqlite else self.engine.url.render_as_string(hide_password=True)
        if self.engine.dialect.name not in ("sqlite", "postgresql"):
            raise UserError(
                f"store.database: {self.engine.dialect.name} is not known. There are SQLite and PostgreSQL."
            )
        if self.is_sqlite and not read_only:
            sql.event.listen(self.engine, "connect", _set_up_sqlite)
            if home is not None:
                home.refuse_missing(Path(str(self.engine.url.database)))
        self._bring_to_layout()
        if home is not None:
            # First the mark: it is written after its commit, so what is looked up afterwards is as new at least. The
            # other way round a commit of somebody else in between makes a good database look old.
            mark = home.mark()
            home.check(self.name, mark, *self.state())

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def _bring_to_layout(self) -> None:
        """Make the tables of a new database, and migrate an old one, in one transaction.

        Raises UserError for a newer one.
        """
        with self.transaction() as connection:
            layout = self._layout(connection)
            if layout == schema.VERSION:
                self._make_missing(connection)
                return
            if self.read_only and layout is None:
                raise NoTables(self.read_only)
            if self.read_only:
                raise BorderError(f"{self.name}: of an older layout, which has to be written first. {self.read_only}")
            # Of two processes that open a new or an old workspace one makes its tables, the other waits.
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sql.text(f"SELECT pg_advisory_xact_lock({_OPENING})"))
            layout = before = self._layout(connection)
            if layout is None and self.home is not None:
                self.home.refuse_new(self.name, "holds no tables")
            while layout is not None and layout < schema.VERSION:
                schema.MIGRATIONS[layout](connection)
                layout += 1
            if before is None and self.is_sqlite:
                for statement in _sqlite_tables():
                    connection.exec_driver_sql(statement)
            else:
                schema.metadata.create_all(connection)
            connection.execute(sql.delete(schema.meta).where(schema.meta.c.key == schema.VERSION_KEY))
            values = {schema.VERSION_KEY: str(schema.VERSION), schema.IDENTITY: uuid.uuid4().hex, schema.NUMBER: "0"}
            self.insert_new(connection, schema.meta, [{"key": key, "value": value} for key, value in values.items()])
        if before is not None and before < schema.VERSION:
            say(f"{self.name}: brought to layout {schema.VERSION}")
            self._shrink()

    def _make_missing(self, connection: sql.Connection) -> None:
        """Make the tables that this layout did not have at first, in a database that can be written."""
        missing = [table for table in schema.LATER if not self.read_only and not self.has(connection, table)]
        for table in missing:
            # Of two processes one makes it.
            with contextlib.suppress(SQLAlchemyError), connection.begin_nested():
                table.create(connection)

    @staticmethod
    def has(connection: sql.Connection, table: sql.Table) -> bool:
        """Whether a table is there: one that came later is not in an older database that can only be read."""
        return bool(sql.inspect(connection).has_table(table.name))

    def _shrink(self) -> None:
        """Give back the room that a migration freed in SQLite's file, where there is room to do it."""
        if not self.is_sqlite:
            return
        # Another process may read, or the disk be full: then the room is used by the next rows instead.
        with (
            contextlib.suppress(SQLAlchemyError, sqlite3.Error),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            connection.execute(sql.text("VACUUM"))
            connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def _layout(self, connection: sql.Connection) -> int | None:
        """Number of the database's layout; None for one without tables."""
        if not sql.inspect(connection).has_table(schema.meta.name):
            return None
        query = sql.select(schema.meta.c.value).where(schema.meta.c.key == schema.VERSION_KEY)
        value = connection.execute(query).scalar()
        if value is None:
            return None
        if not value.isdecimal():
            raise UserError(
                f"{self.name}: layout '{value}', which no version wrote. Bring back a copy of the database."
            )
        if int(value) > schema.VERSION:
            raise UserError(
                f"{self.name}: layout {value}, this version reads layout {schema.VERSION}. "
                "Use the version that made it.",
                code="newer",
            )
        return int(value)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sql.Connection]:
        """A connection whose changes are committed at the end, or rolled back.

        Raises BorderError for what SQL raises.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._translated(error) from error

    @contextlib.contextmanager
    def change(self, count: int = 1) -> Iterator[tuple[sql.Connection, int]]:
        """A transaction of ``count`` numbers of its own; yields the connection and the first of them.

        Numbers grow in the order of commits, whatever the clock says. The first statement takes the lock of writing,
        so of two that change something one waits. Afterwards the mark in the home folder is renewed.
        Raises BorderError in a database that was moved meanwhile: what it takes would be lost.
        """
        if self.read_only:
            raise BorderError(self.read_only)
        with self.transaction() as connection:
            last = self._next_number(connection, count)
            yield connection, last - count + 1
        if self.home is not None:
            self._identity = self._identity or self.state()[0]
            self.home.set_mark(self._identity, last)

    def _next_number(self, connection: sql.Connection, count: int) -> int:
        number = int(connection.execute(_COUNT_ON, {"count": count}).scalar_one())
        if moved := self._meta(connection, schema.MOVED_TO):
            raise BorderError(f"{self.name}: was moved to {moved}. Nothing was written; use it there.", code="moved")
        return number

    def state(self) -> tuple[str, int]:
        """The database's identity, and the number of its last change."""
        with self.transaction() as connection:
            identity, number = (self._meta(connection, key) for key in (schema.IDENTITY, schema.NUMBER))
        return identity or "", int(number or 0)

    @staticmethod
    def _meta(connection: sql.Connection, key: str) -> str | None:
        value = connection.execute(_LOOK_UP, {"name": key}).scalar()
        return None if value is None else str(value)

    def _translated(self, error: Exception) -> FlywheelError:
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        if isinstance(error, IntegrityError) and _is_of_a_key(error):
            return BorderError(f"{self.name}: holds such a row already ({text}).", code=EXISTS)
        if any(sign in text for sign in ("is full", "disk I/O", "No space left")):
            mend = "Free space on the disk and run the same command; nothing written before is lost."
            return BorderError(f"{self.name}: can't write ({text}). {mend}", code="full")
        if ("relation" in text and "does not exist" in text) or any(sign in text for sign in _DAMAGE):
            return BorderError(f"{self.name}: damaged, or not a workspace's ({text}). Restore it from a backup.")
        return BorderError(f"{self.name}: {text}. {_mend_of(text)}")

    def insert_new(self, connection: sql.Connection, table: sql.Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert the rows whose primary key is new; returns how many were.

        The database decides, whoever else writes.
        """
        if not rows:
            return 0
        insert = sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
        statement = insert.on_conflict_do_nothing().returning(*table.primary_key.columns)
        return len(connection.execute(statement, [dict(row) for row in rows]).all())

    def replace(self, connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> None:
        """Insert a row, or change the one that has its primary key."""
        insert = sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
        names = [column.name for column in table.primary_key.columns]
        changed = {name: value for name, value in row.items() if name not in names}
        connection.execute(insert.values(**row).on_conflict_do_update(index_elements=names, set_=changed))

    def clock(self, connection: sql.Connection) -> float:
        """Seconds since 1970 by the database's own clock, which is one for all hosts."""
        clock = (
            "(julianday('now') - 2440587.5) * 86400.0" if self.is_sqlite else "extract(epoch FROM clock_timestamp())"
        )
        return float(connection.execute(sql.text(f"SELECT {clock}")).scalar_one())

    @contextlib.contextmanager
    def exclusive(self, *, shared: bool = False) -> Iterator[bool]:
        """Whether this process alone may write while the context lasts; with ``shared``, it and others that share.

        SQLite lies in one folder, whose lock says it already. PostgreSQL can be written from several machines,
        and lets go when the holder's connection ends.
        """
        if self.is_sqlite:
            yield True
            return
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                how = "_shared" if shared else ""
                free = _try_lock(connection, how)
                try:
                    yield free
                finally:
                    if free:
                        connection.execute(sql.text(f"SELECT pg_advisory_unlock{how}({_WRITING})"))
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def is_empty(self) -> bool:
        """Whether there are no records, corrections and stages."""
        tables = (schema.shards, schema.keys, schema.corrections, schema.stages)
        with self.transaction() as connection:
            return not any(connection.execute(sql.select(table).limit(1)).first() for table in tables)

    def move_to(self, other: Database, address: str, owner: str) -> int:
        """Copy all rows into an empty database and mark this one as moved to ``address``; returns how many rows.

        ``owner`` is the mark of the folder, for the other. While it lasts nobody can change anything here, and
        afterwards neither. Killed in between, the other is whole and this one is not marked: the same again finishes
        it. Raises UserError where the other holds something else.
        """
        with self.change() as (source, number):
            if not other.is_empty():
                self._check_half_moved(source, number, other)
            with other.transaction() as target:
                count = sum(_copy_table(source, target, table, other.name) for table in schema.metadata.sorted_tables)
                other.replace(target, schema.meta, {"key": schema.OWNER, "value": owner})
                last = target.execute(sql.select(sql.func.max(schema.champions.c.id))).scalar()
                if last and not other.is_sqlite:
                    # Rows that came with their ids leave the sequence where it was.
                    sequence = "SELECT setval(pg_get_serial_sequence('champions', 'id'), :last)"
                    target.execute(sql.text(sequence), {"last": last})
            self.replace(source, schema.meta, {"key": schema.MOVED_TO, "value": address})
        return count

    def _check_half_moved(self, source: sql.Connection, number: int, other: Database) -> None:
        """Raise UserError where the other database is not what a killed try of this move left."""
        identity, there = other.state()
        if identity != self._meta(source, schema.IDENTITY):
            raise UserError(f"{other.name}: holds rows already. Name an empty database.")
        if there != number:
            raise UserError(
                f"{other.name}: holds a copy of this one from before later changes. Name an empty database."
            )

    def scrub(self) -> None:
        """Empty SQLite's log, which holds deleted rows; PostgreSQL's vacuum does its part in time."""
        if not self.is_sqlite:
            return
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _copy_table(source: sql.Connection, target: sql.Connection, table: sql.Table, name: str) -> int:
    """Put all rows of a table in place of those of another database; returns how many."""
    target.execute(sql.delete(table))
    count = 0
    for part in source.execute(sql.select(table)).mappings().partitions(5_000):
        target.execute(sql.insert(table), [dict(row) for row in part])
        count += len(part)
    total = sql.select(sql.func.count()).select_from(table)
    before, after = source.execute(total).scalar_one(), target.execute(total).scalar_one()
    if before != after:
        raise BorderError(f"{name}: {after} of {before} rows of {table.name} came over. Nothing was kept; try again.")
    return count


def _is_of_a_key(error: IntegrityError) -> bool:
    """Whether a row was refused because its key is there already, and not for an empty cell or a check."""
    # PostgreSQL's code of unique_violation; SQLite says it by the constraint's name.
    return getattr(error.orig, "sqlstate", "") == "23505" or bool(re.search("UNIQUE|PRIMARY ?KEY", str(error.orig)))


def _mend_of(text: str) -> str:
    """What to do about an error of a database, by its words."""
    for sign, mend in _MENDS:
        if re.search(sign, text):
            return mend
    return "Check that the database is there and writable."


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever signs of URLs its name has."""
    return sql.URL.create("sqlite", database=str(path)).render_as_string()


def public_url(url: str) -> str:
    """The URL without its password."""
    return sql.make_url(url).render_as_string(hide_password=True)


def has_open_password(url: str) -> bool:
    """Whether a URL has a password in plain text, and no variable of the environment in its place.

    Raises UserError for what is no database's URL.
    """
    try:
        made = sql.make_url(url)
    except ArgumentError as error:
        raise UserError("--database: no database URL. Write postgresql://user:$PASSWORD@host/name.") from error
    values = [made.password, made.query.get("password")]
    return any(value and not re.fullmatch(r"\$(\w+|\{\w+\})", str(value)) for value in values)


def begins_with(column: sql.ColumnElement[str], beginning: str) -> sql.ColumnElement[bool]:
    """Whether a text begins so, letter by letter: LIKE takes "a" for "A" in SQLite."""
    return sql.func.substr(column, 1, len(beginning)) == beginning


def ends_with(column: sql.ColumnElement[str], end: str) -> sql.ColumnElement[bool]:
    """Whether a text ends so, letter by letter."""
    return sql.func.substr(column, sql.func.length(column) - (len(end) - 1)) == end


def parts(values: Iterable[T], size: int = IN_LIST) -> Iterator[list[T]]:
    """The values in lists of at most ``size``."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


@cache
def _sqlite_tables() -> tuple[str, ...]:
    """The statements that make all tables, as SQLite has them: to put them into words takes longer than to run them."""
    words: list[str] = []
    for table in schema.metadata.sorted_tables:
        words.append(str(sql.schema.CreateTable(table, if_not_exists=True).compile(dialect=sqlite.dialect())))
        for index in sorted(table.indexes, key=lambda i: str(i.name)):
            words.append(str(sql.schema.CreateIndex(index, if_not_exists=True).compile(dialect=sqlite.dialect())))
    return tuple(words)


def _engine(url: str | sql.URL) -> sql.Engine:
    try:
        parsed = sql.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {}
        if parsed.get_backend_name() == "postgresql":
            # A server that was started anew, or closed what idled, is met with a new connection.
            options["pool_pre_ping"] = True
            if "options" not in parsed.query:
                # A machine that went down holds its lock for a minute, not for the two hours of servers' own settings.
                alive = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
                options["connect_args"] = {"options": alive}
        return sql.create_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UserError(
            "store.database: no database URL. Write postgresql://user@host/name, or leave it empty."
        ) from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"store.database: the driver {error.name} is not installed. pip install 'video-dataflywheel[postgres]'."
        ) from error


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The wait first: the others may have to wait too.
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    # WAL lets readers go on beside the writer; FULL makes an acknowledged commit survive a power cut.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # What is deleted is overwritten: a text that was taken down does not stay in a free page.
    connection.execute("PRAGMA secure_delete=ON")


def _try_lock(connection: sql.Connection, how: str) -> bool:
    """Take PostgreSQL's lock of writing; a server may need a moment to see that a killed holder is gone."""
    for attempt in range(20):
        if attempt:
            time.sleep(0.1)
        if connection.execute(sql.text(f"SELECT pg_try_advisory_lock{how}({_WRITING})")).scalar():
            return True
    return False
