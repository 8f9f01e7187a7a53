"""The mark beside the records: which database knows them, and how far it had come.

Records lie in Parquet, and the database says which of them count. A database that is missing, empty, another one's or
older than the records (a backup that was put back) would take good shards for leftovers; the mark tells.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.errors import BorderError
from flywheel.store.columns import SCHEMAS

FILE = "store.mark"
_MEND = (
    "Nothing was changed. Bring back the newest copy of the database, "
    "or have it made from the records: flywheel doctor --repair."
)


class DatabaseLost(BorderError):
    """There are records, and the database does not know them."""

    code = "database"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A database's identity, and the number of its last change when the mark was written."""

    database: str
    number: int


class Home:
    """The folder whose records a database knows, and the mark in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mark(self) -> Mark | None:
        """The mark; None where there is none that can be read."""
        try:
            database, number = (self.root / FILE).read_text(encoding="utf-8").split()
            return Mark(database=database, number=int(number))
        except (OSError, ValueError):
            return None

    def set_mark(self, database: str, number: int) -> None:
        """Write the mark, after the commit that it tells of.

        In place, in one write of always the same length: a kill leaves the old one or the new one. Two processes may
        write theirs in the wrong order; a mark that is too old notices less, and never accuses a good database.
        """
        line = f"{database} {number:020d}\n".encode()
        # A disk that is full or can only be read: what was committed is committed.
        with contextlib.suppress(OSError):
            descriptor = os.open(self.root / FILE, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)

    def refuse_missing(self, file: Path) -> None:
        """Raise DatabaseLost where SQLite would begin a new database beside records.

        Before it is opened: SQLite removes the log beside a file that is empty, and the log may hold what is left.
        """
        if what := _missing(file):
            try:
                self.refuse_new(str(file), what)
            except DatabaseLost:
                # Somebody else may have begun it, and written records, since it was looked for.
                if _missing(file):
                    raise

    def refuse_new(self, name: str, what: str) -> None:
        """Raise DatabaseLost where there are records that a new, empty database would not know."""
        if count := self._num_shards():
            raise DatabaseLost(f"{name}: {what}, beside {count} shards of records. {_MEND}")
        if self.mark() is not None:
            raise DatabaseLost(f"{name}: {what}, and {FILE} says that there was one with records or words. {_MEND}")

    def check(self, name: str, mark: Mark | None, database: str, number: int) -> None:
        """Raise DatabaseLost where the mark is another database's, or a later state's of this one.

        ``mark`` is what was there before the database was asked for its identity and number.
        """
        if mark is None:
            return
        if mark.database != database:
            raise DatabaseLost(f"{name}: not the database of the records in {self.root}. {_MEND}")
        if number < mark.number:
            raise DatabaseLost(
                f"{name}: older than the records beside it (change {number}, they are of change {mark.number}). {_MEND}"
            )

    def _num_shards(self) -> int:
        return sum(1 for kind in SCHEMAS for _ in (self.root / kind).rglob("part-*.parquet"))


def _missing(file: Path) -> str:
    """What is wrong with a database's file that begins with nothing; empty where it holds something."""
    try:
        return "" if file.stat().st_size else "empty (0 bytes)"
    except FileNotFoundError:
        return "missing"
