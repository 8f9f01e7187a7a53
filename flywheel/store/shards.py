"""Parquet shards on disk: written whole or not at all, scanned many at once, and which small ones to merge."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import BorderError

#: Rows of one shard at most; small shards are merged up to this.
SHARD_ROWS = 16_384
#: Bytes on disk up to which shards are merged.
SHARD_BYTES = 32 << 20
#: Fewer small shards than this in a row are left alone.
_FEW = 8

Schema = Mapping[str, Any]


class ShardGone(BorderError):
    """A shard that the database named a moment ago is not there."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed file of records. It holds the commits ``first`` to ``position`` of its kind."""

    name: str
    kind: str
    round: int | None
    num_rows: int
    first: int
    position: int


def write_shard(frame: pl.DataFrame, path: Path) -> None:
    """Write a file that appears whole or not at all, and survives a power cut. Raises BorderError where it can't."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        mend = "Check the folder."
        if full:
            mend = "Free space on the disk and run the same command; nothing written before is lost."
        raise BorderError(f"{path}: can't write ({error}). {mend}") from error


def sync_folder(folder: Path) -> None:
    """Make renames in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def scan(paths: Sequence[Path], columns: Schema, mends: Mapping[str, pl.Expr], file: str | None = None) -> pl.LazyFrame:
    """A lazy frame over these files with today's columns; ``file`` names a column to put each row's path into.

    One scan over all of them: thousands of single reads would spend the time on opening files.
    """
    frame = pl.scan_parquet(
        list(paths),
        hive_partitioning=False,
        schema=pl.Schema(columns),
        missing_columns="insert",
        include_file_paths=file,
    )
    return frame.with_columns(mend.alias(name) for name, mend in mends.items())


def collect(frame: pl.LazyFrame, paths: Sequence[Path], folder: Path) -> pl.DataFrame:
    """The frame's rows. Raises ShardGone where a file is missing, BorderError where one is damaged."""
    try:
        return frame.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        text = " ".join(str(error).split())
        what = f"{folder}: a committed shard is missing or damaged ({text}). Restore it from a backup."
        raise (BorderError if all(path.exists() for path in paths) else ShardGone)(what) from error


def groups(shards: Sequence[Shard], rows: int) -> Iterator[list[Shard]]:
    """The shards in order, in groups of at most ``rows`` rows, or of one shard that is larger."""
    group: list[Shard] = []
    count = 0
    for shard in shards:
        if group and count + shard.num_rows > rows:
            yield group
            group, count = [], 0
        group.append(shard)
        count += shard.num_rows
    if group:
        yield group


def mergeable(shards: Sequence[Shard], frozen: Collection[int], root: Path) -> Iterator[list[Shard]]:
    """Runs of neighbouring small shards that become one: the same round, and no frozen position between them.

    ``shards`` are all of a kind, in the order of their commits.
    """
    run: list[Shard] = []
    rows = size = 0
    for shard in shards:
        num_bytes = _size(root / shard.name)
        small = shard.num_rows <= SHARD_ROWS // 2 and num_bytes <= SHARD_BYTES // 2
        apart = bool(run) and (
            shard.round != run[-1].round or any(run[-1].position <= position < shard.position for position in frozen)
        )
        if apart or not small or rows + shard.num_rows > SHARD_ROWS or size + num_bytes > SHARD_BYTES:
            yield from _worthwhile(run)
            run, rows, size = [], 0, 0
        if small:
            run.append(shard)
            rows, size = rows + shard.num_rows, size + num_bytes
    yield from _worthwhile(run)


def _worthwhile(run: list[Shard]) -> Iterator[list[Shard]]:
    if len(run) >= _FEW:
        yield run


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # Reading it says what is wrong.
        return 0
