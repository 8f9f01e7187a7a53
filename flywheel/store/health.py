"""Whether the shards are what was written, and giving up one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import BorderError, UserError
from flywheel.store import schema
from flywheel.store.columns import MENDS, SCHEMAS
from flywheel.store.lost import DAMAGED, FOLDER, lost_kinds, move
from flywheel.store.shards import Shard, ShardDamaged, ShardGone, collect, crc32_of, scan
from flywheel.store.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A committed shard that can't be read as it was written."""

    shard: Shard
    says: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a look at all shards found: how many there are, and those at fault."""

    shards: int
    faults: tuple[Fault, ...]


def health_of(workspace: Workspace) -> Health:
    """Read every shard. Those of older layouts, which have no checksum, get one where nobody writes."""
    count, faults, unknown = 0, [], {}
    for kind in SCHEMAS:
        for shard in workspace.records.shards(kind):
            count += 1
            if says := fault_of(workspace, shard):
                faults.append(Fault(shard=shard, says=says))
            elif shard.crc32 is None:
                unknown[shard.name] = crc32_of(workspace.root / shard.name)
    if unknown:
        _note_checksums(workspace, unknown)
    return Health(shards=count, faults=tuple(faults))


def fault_of(workspace: Workspace, shard: Shard) -> str:
    """What is wrong with a shard; empty where nothing is."""
    try:
        paths = workspace.records.checked([shard.name])
        if shard.crc32 is None and (rows := read_whole(paths[0], shard.kind).height) != shard.num_rows:
            return f"{paths[0]}: {rows} rows, and {shard.num_rows} were written"
    except (ShardDamaged, ShardGone) as error:
        return str(error)
    return ""


def read_whole(path: Path, kind: str) -> pl.DataFrame:
    """All rows of a file of records. Raises ShardDamaged where it can't be read."""
    return collect(scan([path], SCHEMAS[kind], MENDS.get(kind, {})), [path], path.parent)


def give_up(workspace: Workspace, name: str) -> Shard:
    """Go on without the rows of a shard that is damaged or gone; returns what it was. The caller holds the lock.

    That it was is on record, its file is kept in ``lost/damaged/``, and its rows' keys are free: the same commands can
    make the rows again. Raises UserError where no shard has this name, and where it is whole.
    """
    shard = next((s for kind in SCHEMAS for s in workspace.records.shards(kind) if s.name == name), None)
    if shard is None:
        raise UserError(f"{name}: no shard of this workspace. 'flywheel doctor' names those that are damaged.")
    why = fault_of(workspace, shard)
    if not why:
        raise UserError(f"{name}: is whole, so there is nothing to give up.")
    keys, rows = schema.keys.c, {"name": name, "kind": shard.kind, "round": shard.round, "num_rows": shard.num_rows}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with workspace.database.change() as (connection, _):
        workspace.database.replace(connection, schema.given_up, {**rows, "why": why, "at": at})
        connection.execute(sql.delete(schema.shards).where(schema.shards.c.name == name))
        held = (keys.kind == shard.kind) & keys.position.between(shard.first, shard.position)
        connection.execute(sql.delete(schema.keys).where(held))
        # Which files gave the clips can't be read any more, and those that gave texts with them give them again.
        if shard.kind == "clips":
            connection.execute(sql.update(schema.locations).values(ingested=None))
        elif shard.kind == "annotations" and shard.round == 0:
            connection.execute(sql.update(schema.locations).values(ingested=False))
    move(workspace.root, name, DAMAGED)
    return shard


def given_up(workspace: Workspace) -> list[str]:
    """A line for each shard that was given up, oldest first."""
    query = sql.select(schema.given_up).order_by(schema.given_up.c.at)
    with workspace.database.transaction() as connection:
        rows = connection.execute(query).all()
    return [f"{row.name} ({row.num_rows} {row.kind}) on {row.at}" for row in rows]


def lost_in(root: Path) -> Iterator[str]:
    """A line for each kind of records of which files were moved aside."""
    for kind, count in lost_kinds(root).items():
        yield f"{count} of {kind} in {root / FOLDER}"


def _note_checksums(workspace: Workspace, checksums: dict[str, int]) -> None:
    try:
        with workspace.lock(tidy=False), workspace.database.change() as (connection, _):
            for name, checksum in checksums.items():
                this = schema.shards.c.name == name
                connection.execute(sql.update(schema.shards).where(this).values(crc32=checksum))
    except (UserError, BorderError):
        # Another command writes, or nobody can: the next look does it.
        return
