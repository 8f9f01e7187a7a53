"""Append-only records: Parquet shards that become visible whole, and a ledger that lets no key in twice.

A shard is written to a temporary file, synced, renamed, and then committed to the database together with its keys in
one transaction. Killed before the commit, its rows do not exist and the file is moved aside at the next opening for
writing; killed after, they do. Readers read the shards that the database names and nothing else.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.store.columns import BY_ROUND, SCHEMAS, key_column
from flywheel.store.copies import trim_shards
from flywheel.store.database import EXISTS, parts
from flywheel.store.lost import remove_lost, set_aside
from flywheel.store.places import mends_of, put_on_record
from flywheel.store.reading import RecordReader
from flywheel.store.schema import keys as key_rows
from flywheel.store.schema import shards as shard_rows
from flywheel.store.schema import snapshots, superseded
from flywheel.store.shards import SHARD_ROWS, Shard, collect, mergeable, scan, write_shard
from flywheel.store.vector_folder import forget_files
from flywheel.store.word_index import SEARCHED, WordIndex

#: Files that are scanned at once when all shards are searched.
_FILES = 512
#: So long a merged shard's files stay for readers that have listed them, in seconds.
_GRACE_S = 600.0


class Records(RecordReader):
    """Reads and writes records; only the holder of the workspace's lock may write."""

    #: Whether rows that are searched for words were added since :meth:`index_words`.
    _has_new_words = False

    def append(self, kind: str, rows: Sequence[dict[str, Any]], *, round: int | None = None) -> int:
        """Write the rows whose key is new, all or none of them; returns how many were. Equal keys count once.

        Where others share the workspace, one of them may commit the same key meanwhile: then its row stands.
        """
        while (count := self._append(kind, rows, round)) is None:
            pass
        return count

    def _append(self, kind: str, rows: Sequence[dict[str, Any]], round: int | None) -> int | None:
        """Write the rows whose key is new; None, and nothing is written, where one was committed meanwhile."""
        columns, key = SCHEMAS[kind], key_column(kind)
        unique = {row[key]: row for row in reversed(rows)}
        known = self.known(kind, unique)
        fresh = [row for row in rows if row[key] not in known and unique.pop(row[key], None) is not None]
        if not fresh:
            return 0
        if self._mirror is not None and kind == "clips":
            # Videos out of containers lie beside the records: they are there before a clip names them.
            self._mirror.publish_files({row["uri"] for row in fresh})
        unique_keys = [row[key] for row in fresh]
        written: list[tuple[str, int, list[str]]] = []
        with self._db.transaction() as connection:
            expected = last_position(connection)
        for part in parts(fresh, SHARD_ROWS):
            expected += 1
            # By column, which is several times faster than by row.
            frame = pl.DataFrame({name: [row[name] for row in part] for name in columns}, schema=columns)
            shard = self._new_name(kind, round)
            crc32 = self._write(frame, shard, (expected, expected))
            written.append((shard, crc32, [row[key] for row in part]))
        try:
            with self._db.change() as (connection, _):
                _commit(connection, kind, round, written)
        except BorderError as error:
            if error.code != EXISTS or not self.known(kind, unique_keys):
                raise
            for name, _, _ in written:
                self._unlink(name)
            return None
        self._has_new_words |= kind in SEARCHED
        return len(fresh)

    def index_words(self) -> None:
        """Make the index of words of what was added, so that nobody who searches waits for it."""
        if self._has_new_words:
            WordIndex(self).complete()
            self._has_new_words = False

    def remove(self, what: Mapping[str, pl.Expr]) -> dict[str, int]:
        """Remove rows (kind -> which) for good; returns how many of each kind.

        A shard is written anew without them and takes the old one's place in one transaction, and only then the old
        file goes: killed between, the rows are all there or all gone. They go from files that were moved aside too.
        """
        removed = {
            kind: sum(self._without(s, which) for s in self._matching(kind, which)) for kind, which in what.items()
        }
        if removed.get("vectors"):
            # When shards are merged next, their files can't tell any more what went.
            forget_files(self.root)
        for kind, which in what.items():
            remove_lost(self.root, kind, which)
        self._purge_superseded()
        WordIndex(self).forget_gone()
        return removed

    def rewrite(self, kind: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
        """Write shards anew whose rows ``change`` makes others of, keys and order as they are; returns how many rows.

        A shard at a time takes the old one's place in a transaction: killed between, the same call goes on.
        """
        return sum(self._rewritten(shard, change) for shard in self._shards(kind))

    def compact(self, kind: str) -> int:
        """Merge neighbouring small shards; returns how many became fewer. The rows and their order stay as they are.

        A merged shard takes the place of the small ones in one transaction. Their files stay for some minutes, for
        readers that have listed them, until :meth:`sweep` removes them. Frozen views see the same rows as before.
        """
        with self._db.transaction() as connection:
            frozen = list(connection.execute(sql.select(snapshots.c.position)).scalars())
        count = 0
        for run in list(mergeable(self._shards(kind), frozen, self.root)):
            self._merge(kind, run)
            count += len(run)
        return count

    def sweep(self) -> int:
        """Tidy up the folders; returns how many files went.

        Removed are half-written files, and those that were merged some time ago. What no commit names is moved aside.
        Raises BorderError where a committed shard is gone: before anything is touched.
        """
        now = time.time()
        with self._db.transaction() as connection:
            committed = set(connection.execute(sql.select(shard_rows.c.name)).scalars())
            merged = connection.execute(sql.select(superseded.c.name, superseded.c.at)).all()
        there = {str(path.relative_to(self.root)) for kind in SCHEMAS for path in (self.root / kind).rglob("part-*")}
        if self._mirror is not None:
            there = self._of_store(there, committed)
        self._refuse_gone(committed - there, there - committed)
        # A clock that was set back must not keep them for ever.
        fresh = {name for name, at in merged if abs(now - at) < _GRACE_S}
        old = {name for name, _ in merged} - fresh
        rest = there - committed - fresh
        halves = {name for name in rest if name.endswith(".tmp")}
        done = (old & there) | halves
        for name in done:
            self._unlink(name)
        self._forget_superseded(old)
        lost = sorted(rest - done)
        if self._mirror is not None:
            self._mirror.fetch(lost)
        moved = set_aside(self.root, lost)
        for name in lost if self._mirror is not None else ():
            self._unlink(name)
        return len(done) + moved

    def _of_store(self, here: set[str], committed: set[str]) -> set[str]:
        """The shards of the object store, and the halves that are here.

        Copies here that it does not have are none's: another host removed them, or nothing named them yet.
        """
        assert self._mirror is not None
        there = self._mirror.shards()
        for name in here - there - committed:
            (self.root / name).unlink(missing_ok=True)
        return there

    def trim_copies(self, most_bytes: int) -> None:
        """Of a workspace on an object store: remove copies here that no commit names, and the oldest above a size."""
        if self._mirror is not None:
            with self._db.transaction() as connection:
                committed = set(connection.execute(sql.select(shard_rows.c.name)).scalars())
            trim_shards(self.root, committed, most_bytes)

    def _write(self, frame: pl.DataFrame, name: str, commits: tuple[int, int]) -> int:
        """Write a shard, here and to the object store where there is one, before a commit names it."""
        crc32 = write_shard(put_on_record(self.root, frame), self.root / name, commits)
        if self._mirror is not None:
            self._mirror.add(name)
        return crc32

    def _unlink(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        if self._mirror is not None:
            self._mirror.remove(name)

    def _refuse_gone(self, gone: Collection[str], unknown: Collection[str]) -> None:
        if not gone:
            return
        beside = f", and {len(unknown)} files are there that it does not name" if unknown else ""
        raise BorderError(
            f"{self._db.name}: names {len(gone)} shards that are gone, such as {self.root / min(gone)}{beside}. "
            "Nothing was changed. Bring them back from a backup, or see what 'flywheel doctor' says.",
            code="shard",
        )

    def _new_name(self, kind: str, round: int | None) -> str:
        folder = Path(kind) / f"round={round:03d}" if kind in BY_ROUND else Path(kind)
        return str(folder / f"part-{uuid.uuid4().hex}.parquet")

    def _matching(self, kind: str, which: pl.Expr) -> list[Shard]:
        """The shards that hold such rows; only the columns that tell are read."""
        shards = self._shards(kind)
        found: list[Shard] = []
        for group in parts(shards, _FILES):
            paths = self.checked(shard.name for shard in group)
            frame = scan(paths, SCHEMAS[kind], mends_of(kind, self.root), file="__file").filter(which).select("__file")
            names = set(collect(frame.unique(), paths, self.root / kind)["__file"])
            found += [shard for shard, path in zip(group, paths, strict=True) if str(path) in names]
        return found

    def _without(self, shard: Shard, which: pl.Expr) -> int:
        """Write a shard anew without some of its rows; returns how many went."""
        frame = self._scan(shard.kind, [shard])
        gone, kept = frame.filter(which), frame.filter(~which)
        name = str(Path(shard.name).with_name(f"part-{uuid.uuid4().hex}.parquet"))
        values: dict[str, object] = {"name": name, "num_rows": kept.height}
        if kept.height:
            values["crc32"] = self._write(kept, name, (shard.first, shard.position))
        this = shard_rows.c.name == shard.name
        with self._db.change() as (connection, _):
            if kept.height:
                connection.execute(sql.update(shard_rows).where(this).values(values))
            else:
                connection.execute(sql.delete(shard_rows).where(this))
            for part in parts(gone[key_column(shard.kind)]):
                these = (key_rows.c.kind == shard.kind) & key_rows.c.key.in_(part)
                connection.execute(sql.delete(key_rows).where(these))
            # On record: killed before the file goes, it is known for what it is, and nobody keeps it as lost.
            connection.execute(sql.insert(superseded), [{"name": shard.name, "at": 0.0}])
        return gone.height

    def _rewritten(self, shard: Shard, change: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
        before = self._scan(shard.kind, [shard])
        after = change(before)
        if after.equals(before):
            return 0
        name = str(Path(shard.name).with_name(f"part-{uuid.uuid4().hex}.parquet"))
        values = {"name": name, "crc32": self._write(after, name, (shard.first, shard.position))}
        with self._db.change() as (connection, _):
            connection.execute(sql.update(shard_rows).where(shard_rows.c.name == shard.name).values(values))
            connection.execute(sql.insert(superseded), [{"name": shard.name, "at": time.time()}])
        return after.height

    def _merge(self, kind: str, run: Sequence[Shard]) -> None:
        frame = self._scan(kind, run)
        rows, names = sum(shard.num_rows for shard in run), [shard.name for shard in run]
        if frame.height != rows:
            raise BorderError(
                f"{self.root / kind}: {frame.height} rows in shards that had {rows}. Restore them from a backup."
            )
        last = run[-1]
        name = str(Path(last.name).with_name(f"part-{uuid.uuid4().hex}.parquet"))
        merged = Shard(
            name=name,
            crc32=self._write(frame, name, (run[0].first, last.position)),
            kind=kind,
            round=last.round,
            num_rows=rows,
            first=run[0].first,
            position=last.position,
        )
        with self._db.change() as (connection, _):
            for part in parts(names):
                connection.execute(sql.delete(shard_rows).where(shard_rows.c.name.in_(part)))
            connection.execute(sql.insert(shard_rows).values(**vars(merged)))
            now = time.time()
            connection.execute(sql.insert(superseded), [{"name": name, "at": now} for name in names])

    def _purge_superseded(self) -> None:
        """Remove files that others took the place of at once: they may hold what must go."""
        with self._db.transaction() as connection:
            names = set(connection.execute(sql.select(superseded.c.name)).scalars())
        for name in names:
            self._unlink(name)
        self._forget_superseded(names)

    def _forget_superseded(self, names: Collection[str]) -> None:
        with self._db.transaction() as connection:
            for part in parts(names):
                connection.execute(sql.delete(superseded).where(superseded.c.name.in_(part)))


def last_position(connection: sql.Connection) -> int:
    """Number of the last commit. A frozen one counts where its rows were taken down: it must not be given again."""
    columns = (shard_rows.c.position, snapshots.c.position)
    return max(int(connection.execute(sql.select(sql.func.max(c))).scalar() or 0) for c in columns)


def _commit(
    connection: sql.Connection, kind: str, round: int | None, written: Sequence[tuple[str, int, list[str]]]
) -> None:
    """Put shards (name, checksum, keys) that were written on record."""
    position = last_position(connection)
    for name, crc32, ids in written:
        position += 1
        values = {"kind": kind, "round": round, "num_rows": len(ids), "first": position, "position": position}
        connection.execute(sql.insert(shard_rows).values(name=name, crc32=crc32, **values))
        connection.execute(sql.insert(key_rows), [{"kind": kind, "key": i, "position": position} for i in ids])
