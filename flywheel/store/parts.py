"""Parts of records: some columns of some shards, for whoever can't hold a million rows.

:meth:`Records.read` gives whole tables. Here a caller sees which shards there are, reads the columns it needs of
those it has not read yet, and looks rows up by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.core.types import Clip
from flywheel.store import database as db
from flywheel.store.records import _BEFORE, SCHEMAS
from flywheel.store.workspace import Workspace, clip_of

#: Rows and shards that are read at a time; both bound the memory of a read.
_ROWS_A_PART = 65_536
_SHARDS_A_PART = 512
_KEYS_A_QUERY = 500
#: Up to so many keys are looked for in each file by itself.
_FEW_KEYS = 16


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed shard, in the order of commits by ``position``."""

    name: str
    round: int | None
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Numbers that differ between two looks when something changed: rows of tables, and shards by kind."""

    corrections: int
    exclusions: int
    gold: int
    takedowns: int
    #: Kind -> number of shards and the newest one's place.
    shards: tuple[tuple[str, int, int], ...]


def changes(workspace: Workspace, kinds: Sequence[str]) -> Changes:
    """What to compare with an earlier look at the tables and at the shards of these kinds."""
    counts = {
        table.name: sql.select(sql.func.count()).select_from(table)
        for table in (db.corrections, db.exclusions, db.gold, db.takedowns)
    }
    by_kind = sql.select(db.shards.c.kind, sql.func.count(), sql.func.max(db.shards.c.position))
    by_kind = by_kind.where(db.shards.c.kind.in_(kinds)).group_by(db.shards.c.kind).order_by(db.shards.c.kind)
    with workspace.database.transaction() as connection:
        numbers = {name: int(connection.execute(query).scalar_one()) for name, query in counts.items()}
        shards = tuple((kind, int(count), int(newest)) for kind, count, newest in connection.execute(by_kind))
    return Changes(**numbers, shards=shards)


def shards_of(workspace: Workspace, kind: str) -> list[Shard]:
    """All committed shards of a kind, in the order of their commits."""
    columns = (db.shards.c.name, db.shards.c.round, db.shards.c.num_rows)
    query = sql.select(*columns).where(db.shards.c.kind == kind).order_by(db.shards.c.position, db.shards.c.name)
    with workspace.database.transaction() as connection:
        return [Shard(name=r.name, round=r.round, num_rows=r.num_rows) for r in connection.execute(query)]


def in_parts(shards: Sequence[Shard]) -> Iterator[list[Shard]]:
    """The shards in their order, as many at a time as memory should hold."""
    part: list[Shard] = []
    num_rows = 0
    for shard in shards:
        if part and (num_rows + shard.num_rows > _ROWS_A_PART or len(part) >= _SHARDS_A_PART):
            yield part
            part, num_rows = [], 0
        part.append(shard)
        num_rows += shard.num_rows
    if part:
        yield part


def read_columns(
    workspace: Workspace, kind: str, names: Sequence[str], columns: Sequence[str], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Columns of the rows of these shards, in their order; of all rows, or of those ``where`` is true.

    Raises BorderError where a shard is missing or damaged.
    """
    schema = pl.Schema(SCHEMAS[kind])
    frames = []
    folder = workspace.records.root
    try:
        for start in range(0, len(names), _SHARDS_A_PART):
            files = [folder / name for name in names[start : start + _SHARDS_A_PART]]
            scan = pl.scan_parquet(files, hive_partitioning=False, schema=schema, missing_columns="insert")
            # What older shards lack is filled in first: ``where`` may ask for it.
            scan = scan.with_columns(old.alias(name) for name, old in _BEFORE.get(kind, {}).items())
            frames.append((scan if where is None else scan.filter(where)).select(columns).collect())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BorderError(
            f"{folder / kind}: a committed shard is missing or damaged ({error}). Restore it from a backup."
        ) from error
    return _together(frames, kind, columns)


def _together(frames: Sequence[pl.DataFrame], kind: str, columns: Sequence[str]) -> pl.DataFrame:
    schema = pl.Schema(SCHEMAS[kind])
    return pl.concat(frames) if frames else pl.DataFrame(schema={name: schema[name] for name in columns})


def read_rows(
    workspace: Workspace, kind: str, keys: Iterable[str], columns: Sequence[str], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Columns of the rows with these keys; only the shards that hold them are opened, some at a time."""
    wanted = list(keys)
    key = next(iter(SCHEMAS[kind]))
    is_wanted = pl.col(key).is_in(wanted)
    condition = is_wanted if where is None else is_wanted & where
    frames = []
    for part in in_parts(_shards_with(workspace, kind, wanted)):
        names = [shard.name for shard in part]
        if len(part) == 1 or len(wanted) <= _FEW_KEYS:
            frames.append(read_columns(workspace, kind, names, columns, condition))
            continue
        # Of many keys a set would be made anew for each file: read the part, and look them up once.
        rows = read_columns(workspace, kind, names, list(dict.fromkeys([key, *columns])), where)
        frames.append(rows.filter(is_wanted).select(columns))
    return _together(frames, kind, columns)


def _shards_with(workspace: Workspace, kind: str, keys: Sequence[str]) -> list[Shard]:
    """The shards that hold rows with these keys, in the order of their commits."""
    shards: dict[str, tuple[int, Shard]] = {}
    columns = (db.shards.c.position, db.shards.c.name, db.shards.c.round, db.shards.c.num_rows)
    query = sql.select(*columns).join(db.keys, db.keys.c.shard == db.shards.c.name).distinct()
    with workspace.database.transaction() as connection:
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = (db.keys.c.kind == kind) & db.keys.c.key.in_(keys[start : start + _KEYS_A_QUERY])
            for row in connection.execute(query.where(some)):
                shards[row.name] = (row.position, Shard(name=row.name, round=row.round, num_rows=row.num_rows))
    return [shard for _, shard in sorted(shards.values(), key=lambda entry: (entry[0], entry[1].name))]


def committed_shards(workspace: Workspace, names: Iterable[str]) -> list[str]:
    """Those of these shards that are still committed; a takedown puts another in one's place."""
    wanted = sorted(names)
    present: list[str] = []
    with workspace.database.transaction() as connection:
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = db.shards.c.name.in_(wanted[start : start + _KEYS_A_QUERY])
            present += connection.execute(sql.select(db.shards.c.name).where(some)).scalars()
    return present


def clips_with_ids(workspace: Workspace, ids: Iterable[str]) -> dict[str, Clip]:
    """The clips with these ids, ``uri`` being where the file was last seen."""
    frame = read_rows(workspace, "clips", ids, list(SCHEMAS["clips"]))
    hashes = frame["content_hash"].unique().to_list()
    places: dict[str, str] = {}
    with workspace.database.transaction() as connection:
        for start in range(0, len(hashes), _KEYS_A_QUERY):
            some = db.locations.c.content_hash.in_(hashes[start : start + _KEYS_A_QUERY])
            places |= {row.content_hash: row.uri for row in connection.execute(sql.select(db.locations).where(some))}
    rows = frame.iter_rows(named=True)
    return {row["id"]: clip_of({**row, "uri": places.get(row["content_hash"], row["uri"])}) for row in rows}
