"""Reads of committed records: the shards that the database names, and nothing else."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import sqlalchemy as sql

from flywheel.store.columns import SCHEMAS, key_column
from flywheel.store.database import Database, parts
from flywheel.store.mirror import mirror_of
from flywheel.store.places import mends_of
from flywheel.store.schema import keys as key_rows
from flywheel.store.schema import shards as shard_rows
from flywheel.store.shards import SHARD_ROWS, Checksums, Shard, ShardGone, collect, groups, scan

T = TypeVar("T")
#: Rows of numbers that are in memory at a time. Rows with paths and words take the more: of them it is a shard's.
BATCH_ROWS = 65_536
#: No key goes on with a letter behind this one.
_LAST_LETTER = "\U0010ffff"


class RecordReader:
    """Reads committed rows. ``until`` is the last commit that it sees; None is all."""

    def __init__(self, root: Path, database: Database, until: int | None = None) -> None:
        self.root = root
        self.until = until
        self._db = database
        self._mirror = mirror_of(root)
        self._checksums = Checksums(root)

    def count(self, kind: str, *, round: int | None = None) -> int:
        """Number of committed rows, from the database alone."""
        query = sql.select(sql.func.coalesce(sql.func.sum(shard_rows.c.num_rows), 0))
        with self._db.transaction() as connection:
            return int(connection.execute(self._seen(query, kind, round)).scalar_one())

    def shards(self, kind: str, *, round: int | None = None) -> list[Shard]:
        """The committed shards, in the order of their commits."""
        return self._shards(kind, round)

    def rounds(self, kind: str) -> list[int]:
        """Rounds that have records of this kind, in order."""
        return sorted({shard.round for shard in self._shards(kind) if shard.round is not None})

    def keys_from(self, kind: str, beginning: str) -> list[str]:
        """Keys of committed rows that begin so, in order."""
        column = key_rows.c.key
        query = sql.select(column).where(
            key_rows.c.kind == kind, column >= beginning, column < beginning + _LAST_LETTER
        )
        if self.until is not None:
            query = query.where(key_rows.c.position <= self.until)
        with self._db.transaction() as connection:
            return list(connection.execute(query.order_by(column)).scalars())

    def known(self, kind: str, keys: Iterable[str]) -> set[str]:
        """Those of these keys that are committed."""
        return set(self._positions(kind, keys))

    def position(self, kind: str, key: str) -> int:
        """Number of the commit that wrote the row of this key; 0 where there is none."""
        return self._positions(kind, [key]).get(key, 0)

    def read(
        self,
        kind: str,
        *,
        round: int | None = None,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """All committed rows of a kind, or those ``where`` is true, in the order of their commits."""
        return _twice(lambda: self._scan(kind, self._shards(kind, round), where, columns))

    def rows(self, kind: str, keys: Iterable[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The committed rows with these keys; only the shards that hold them are opened."""
        wanted = list(keys)
        where = pl.col(key_column(kind)).is_in(wanted)

        def attempt() -> pl.DataFrame:
            positions = self._positions(kind, wanted).values()
            return self._scan(kind, self._holding(kind, set(positions)), where, columns)

        return _twice(attempt)

    def of_clips(self, kind: str, clip_ids: Collection[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The committed rows of these clips.
        In all shards the column of ids is searched, the rest is read where it fits."""
        if kind == "clips":
            return self.rows(kind, clip_ids, columns)
        return self.read(kind, columns=columns, where=pl.col("clip_id").is_in(sorted(clip_ids)))

    def batches(
        self,
        kind: str,
        *,
        columns: Sequence[str] | None = None,
        round: int | None = None,
        where: pl.Expr | None = None,
        rows: int = SHARD_ROWS,
    ) -> Iterator[pl.DataFrame]:
        """The rows of :meth:`read` in frames of at most ``rows``, none of them empty: for more than memory holds."""
        for group in groups(self._shards(kind, round), rows):
            frame = self._scan(kind, group, where, columns)
            yield from (part for part in frame.iter_slices(rows) if part.height)

    def of_shards(
        self, kind: str, shards: Sequence[Shard], columns: Sequence[str], where: pl.Expr | None = None
    ) -> pl.DataFrame:
        """Columns of the rows of these shards, in their order; of all rows, or of those ``where`` is true.

        Raises ShardGone where a takedown wrote one anew since they were listed.
        """
        return self._scan(kind, shards, where, columns)

    def checked(self, names: Iterable[str]) -> list[Path]:
        """The files of committed shards, whose checksums are right.

        Raises ShardGone where one is not there, ShardDamaged where one is not what was written.
        """
        return self._checksums.paths(names)

    def files(self, kind: str, *, round: int | None = None) -> list[Path]:
        """The committed shards, in the order of their commits."""
        return [self.root / shard.name for shard in self._shards(kind, round)]

    def _shards(self, kind: str, round: int | None = None) -> list[Shard]:
        """The committed shards that this reader sees, in the order of their commits."""
        query = self._seen(sql.select(shard_rows), kind, round)
        with self._db.transaction() as connection:
            rows = connection.execute(query.order_by(shard_rows.c.position)).mappings().all()
        shards = [Shard(**row) for row in rows]
        self._checksums.know(shards)
        return shards

    def _seen(self, query: sql.Select[Any], kind: str, round: int | None) -> sql.Select[Any]:
        query = query.where(shard_rows.c.kind == kind)
        if round is not None:
            query = query.where(shard_rows.c.round == round)
        return query if self.until is None else query.where(shard_rows.c.position <= self.until)

    def _positions(self, kind: str, keys: Iterable[str]) -> dict[str, int]:
        """Keys that are committed -> the commit that wrote their rows."""
        query = sql.select(key_rows.c.key, key_rows.c.position).where(key_rows.c.kind == kind)
        if self.until is not None:
            query = query.where(key_rows.c.position <= self.until)
        positions: dict[str, int] = {}
        with self._db.transaction() as connection:
            for part in parts(keys):
                positions.update(connection.execute(query.where(key_rows.c.key.in_(part))).all())
        return positions

    def _holding(self, kind: str, positions: Collection[int]) -> list[Shard]:
        """The shards that hold these commits."""
        if not positions:
            return []
        shards = self._shards(kind)
        last = [shard.position for shard in shards]
        return [shards[place] for place in sorted({bisect.bisect_left(last, position) for position in positions})]

    def _scan(
        self,
        kind: str,
        shards: Sequence[Shard],
        where: pl.Expr | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        if not shards:
            frame = pl.DataFrame(schema=pl.Schema(SCHEMAS[kind]))
            return frame if columns is None else frame.select(columns)
        paths = self.checked(shard.name for shard in shards)
        rows = scan(paths, SCHEMAS[kind], mends_of(kind, self.root))
        if where is not None:
            rows = rows.filter(where)
        if columns is not None:
            rows = rows.select(columns)
        return collect(rows, paths, self.root / kind)


def _twice(attempt: Callable[[], T]) -> T:
    """Try again with the shards that the database names now: a shard that was listed may have been written anew."""
    try:
        return attempt()
    except ShardGone:
        return attempt()
