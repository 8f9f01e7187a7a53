"""Parts of records: some columns of some shards, for callers that can't hold a million rows.

A caller sees which shards there are, reads the columns it needs of those it has not read yet, and looks rows up by
key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sql

from flywheel.core.types import Clip
from flywheel.store import schema
from flywheel.store.columns import SCHEMAS
from flywheel.store.database import parts
from flywheel.store.places import mends_of
from flywheel.store.shards import SHARD_ROWS, Shard, collect, groups, scan
from flywheel.store.view import clip_of
from flywheel.store.workspace import Workspace

__all__ = [
    "Changes",
    "Shard",
    "changes",
    "clips_with_ids",
    "committed_shards",
    "in_parts",
    "newest_round",
    "read_columns",
    "read_rows",
    "shards_of",
]

#: Shards that are opened at a time.
_SHARDS = 512


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
        for table in (schema.corrections, schema.exclusions, schema.gold, schema.takedowns)
    }
    columns = schema.shards.c
    by_kind = sql.select(columns.kind, sql.func.count(), sql.func.max(columns.position))
    by_kind = by_kind.where(columns.kind.in_(kinds)).group_by(columns.kind).order_by(columns.kind)
    with workspace.database.transaction() as connection:
        numbers = {name: int(connection.execute(query).scalar_one()) for name, query in counts.items()}
        shards = tuple((kind, int(count), int(newest)) for kind, count, newest in connection.execute(by_kind))
    return Changes(**numbers, shards=shards)


def newest_round(workspace: Workspace, kind: str) -> int:
    """The newest round that wrote records of a kind, by the table of shards alone; 0 where there is none."""
    newest = sql.select(sql.func.max(schema.shards.c.round)).where(schema.shards.c.kind == kind)
    with workspace.database.transaction() as connection:
        return int(connection.execute(newest).scalar() or 0)


def shards_of(workspace: Workspace, kind: str) -> list[Shard]:
    """All committed shards of a kind, in the order of their commits."""
    return workspace.records.shards(kind)


def in_parts(shards: Sequence[Shard]) -> Iterator[list[Shard]]:
    """The shards in their order, as many at a time as memory should hold."""
    return groups(shards, SHARD_ROWS)


def read_columns(
    workspace: Workspace, kind: str, names: Sequence[str], columns: Sequence[str], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Columns of the rows of these shards, in their order; of all rows, or of those ``where`` is true.

    Raises BorderError where a shard is missing or damaged.
    """
    dtypes = pl.Schema(SCHEMAS[kind])
    frames = [pl.DataFrame(schema={name: dtypes[name] for name in columns})]
    folder = workspace.records.root
    for start in range(0, len(names), _SHARDS):
        files = workspace.records.checked(names[start : start + _SHARDS])
        # What older shards lack is filled in first: ``where`` may ask for it.
        rows = scan(files, SCHEMAS[kind], mends_of(kind, folder))
        chosen = rows if where is None else rows.filter(where)
        frames.append(collect(chosen.select(columns), files, folder / kind))
    return pl.concat(frames)


def read_rows(
    workspace: Workspace, kind: str, keys: Iterable[str], columns: Sequence[str], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Columns of the rows with these keys; only the shards that hold them are opened."""
    needed = list(dict.fromkeys([*columns, *(where.meta.root_names() if where is not None else ())]))
    rows = workspace.records.rows(kind, keys, needed)
    return (rows if where is None else rows.filter(where)).select(columns)


def committed_shards(workspace: Workspace, names: Iterable[str]) -> list[str]:
    """Those of these shards that are still committed; a takedown puts another in one's place."""
    column = schema.shards.c.name
    present: list[str] = []
    with workspace.database.transaction() as connection:
        for some in parts(sorted(names)):
            present += connection.execute(sql.select(column).where(column.in_(some))).scalars()
    return present


def clips_with_ids(workspace: Workspace, ids: Iterable[str]) -> dict[str, Clip]:
    """The clips with these ids, ``uri`` being where the file was last seen."""
    return {row["id"]: clip_of(row) for row in workspace.clips_by_id(list(ids)).iter_rows(named=True)}
