"""Shards that the database does not know, taken in again: every row once, whatever copies of it lie about."""

from __future__ import annotations

import bisect
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import sqlalchemy as sql

from flywheel.store import schema
from flywheel.store.columns import key_column
from flywheel.store.health import read_whole
from flywheel.store.lost import FOLDER
from flywheel.store.records import last_position
from flywheel.store.shards import COMMITS, POLARS_ERRORS, Shard, ShardDamaged, crc32_of, write_shard
from flywheel.store.workspace import Workspace

_ROUND = re.compile(r"round=(\d+)$")


@dataclass(frozen=True, kw_only=True)
class _Stray:
    """A file of records that no commit names; ``commits`` are the first and last that it was written for."""

    path: Path
    #: Its place in the workspace, where it would be read.
    name: str
    commits: tuple[int, int] | None
    mtime: float

    def order(self) -> tuple[float, ...]:
        """Where it belongs: by commits, merged shards before those that they were made of, then by time of change."""
        first, last = self.commits or (1 << 62, 0)
        return (first, -last, self.mtime)


class _Taken:
    """The commits of a kind that shards hold."""

    def __init__(self, commits: list[tuple[int, int]]) -> None:
        self._commits = sorted(commits)

    def has_room(self, first: int, last: int) -> bool:
        """Whether no shard holds a commit from ``first`` to ``last``."""
        place = bisect.bisect_left(self._commits, (first, first))
        before, after = self._commits[max(0, place - 1) : place], self._commits[place : place + 1]
        return all(end < first for _, end in before) and all(start > last for start, _ in after)

    def add(self, first: int, last: int) -> None:
        """Take these commits."""
        bisect.insort(self._commits, (first, last))


def adopt(workspace: Workspace, kind: str) -> list[str]:
    """Commit the rows of a kind that lie in files which the database does not name; returns what was done, in lines.

    The caller holds the lock. A committed shard whose file is gone gives way where its rows lie in other files.
    """
    committed = workspace.records.shards(kind)
    known = {shard.name for shard in committed}
    strays, lines = [], []
    for base in (workspace.root, workspace.root / FOLDER):
        for path in sorted((base / kind).rglob("part-*.parquet")):
            if (name := str(path.relative_to(base))) in known and base == workspace.root:
                continue
            try:
                strays.append(_stray(path, name))
            except POLARS_ERRORS:
                lines.append(f"{path}: can't be read, left where it is")
    strays.sort(key=_Stray.order)
    gone = [shard for shard in committed if not (workspace.root / shard.name).exists()]
    if gone:
        lines += _give_way(workspace, kind, gone, strays)
    taken = _Taken([(s.first, s.position) for s in workspace.records.shards(kind)])
    rows = files = 0
    for stray in strays:
        try:
            count = _commit(workspace, kind, stray, taken)
        except ShardDamaged as error:
            lines.append(f"{stray.path}: {error}")
            continue
        rows, files = rows + count, files + bool(count)
    return [*lines, f"{kind}: {rows} rows of {files} shards taken in again"] if rows else lines


def _stray(path: Path, name: str) -> _Stray:
    commits = pl.read_parquet_metadata(path).get(COMMITS)
    first, _, last = (commits or "").partition(" ")
    return _Stray(
        path=path,
        name=name,
        commits=(int(first), int(last)) if first and last else None,
        mtime=path.stat().st_mtime,
    )


def _give_way(workspace: Workspace, kind: str, gone: Sequence[Shard], strays: Sequence[_Stray]) -> list[str]:
    """Let go of shards whose files are gone, where all their rows lie in strays."""
    there: set[str] = set()
    for stray in strays:
        try:
            there.update(_keys(stray.path, kind))
        except POLARS_ERRORS:
            continue
    lines, keys = [], schema.keys.c
    for shard in gone:
        held = (keys.kind == kind) & keys.position.between(shard.first, shard.position)
        with workspace.database.change() as (connection, _):
            missing = set(connection.execute(sql.select(keys.key).where(held)).scalars()) - there
            if missing:
                lines.append(
                    f"{workspace.root / shard.name}: gone, and {len(missing)} of its {shard.num_rows} rows are nowhere "
                    f"else. Bring it back, or give it up: flywheel doctor --give-up {shard.name}"
                )
                continue
            connection.execute(sql.delete(schema.keys).where(held))
            connection.execute(sql.delete(schema.shards).where(schema.shards.c.name == shard.name))
    return lines


def _keys(path: Path, kind: str) -> pl.Series:
    return pl.read_parquet(path, columns=[key_column(kind)], hive_partitioning=False, glob=False)[key_column(kind)]


def _commit(workspace: Workspace, kind: str, stray: _Stray, taken: _Taken) -> int:
    """Commit the rows of a file that are new; returns how many were."""
    root, key = workspace.root, key_column(kind)
    frame = read_whole(stray.path, kind)
    ids = frame[key].to_list()
    known = workspace.records.known(kind, ids)
    fresh = [i for i in dict.fromkeys(ids) if i not in known]
    if not fresh:
        return 0
    name, crc32 = stray.name, crc32_of(stray.path)
    commits = stray.commits
    if commits is None or not taken.has_room(*commits):
        with workspace.database.transaction() as connection:
            commits = (last_position(connection) + 1,) * 2
    taken.add(*commits)
    if len(fresh) < frame.height:
        # Some of its rows are in other shards: those that are not get a file of their own.
        rest = frame.filter(pl.col(key).is_in(fresh)).unique(key, keep="first", maintain_order=True)
        name = str(Path(name).with_name(f"part-{uuid.uuid4().hex}.parquet"))
        crc32 = write_shard(rest, root / name, commits)
    elif stray.path != root / name:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stray.path, root / name)
    found = _ROUND.search(str(Path(name).parent))
    values = {"kind": kind, "round": int(found[1]) if found else None, "num_rows": len(fresh), "crc32": crc32}
    with workspace.database.change() as (connection, _):
        place = {"first": commits[0], "position": commits[1]}
        connection.execute(sql.insert(schema.shards).values(name=name, **values, **place))
        rows = [{"kind": kind, "key": i, "position": commits[1]} for i in fresh]
        connection.execute(sql.insert(schema.keys), rows)
    return len(fresh)
