"""Parquet shards on disk: written whole or not at all, scanned many at once, and which small ones to merge."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import BorderError
from flywheel.store.mirror import mirror_of

#: Rows of one shard at most; small shards are merged up to this.
SHARD_ROWS = 16_384
#: Bytes on disk up to which shards are merged.
SHARD_BYTES = 32 << 20
#: Fewer small shards than this in a row are left alone.
_FEW = 8

Schema = Mapping[str, Any]
#: What polars raises for a file that is not what it should be. Its panic is no Exception, and would pass every handler.
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


#: Key of a file's own metadata: the first and last commit that it holds, as they were expected when it was written.
COMMITS = "flywheel.commits"


class ShardGone(BorderError):
    """A shard that the database named a moment ago is not there."""

    code = "shard"


class ShardDamaged(BorderError):
    """A shard is not what was written."""

    code = "shard"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A committed file of records. It holds the commits ``first`` to ``position`` of its kind."""

    name: str
    kind: str
    round: int | None
    num_rows: int
    first: int
    position: int
    #: Checksum of the file; None where none was kept.
    crc32: int | None = None


def write_shard(frame: pl.DataFrame, path: Path, commits: tuple[int, int] | None = None) -> int:
    """Write a file that appears whole or not at all, and survives a power cut; returns its checksum (CRC-32).

    ``commits`` are the first and last one that it will hold. Raises BorderError where it can't be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    # In memory first: the checksum is that of what was meant, not of what a disk made of it.
    content = io.BytesIO()
    frame.write_parquet(content, metadata={COMMITS: f"{commits[0]} {commits[1]}"} if commits else None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        mend = "Check the folder."
        if full:
            mend = "Free space on the disk and run the same command; nothing written before is lost."
        raise BorderError(f"{path}: can't write ({error}). {mend}") from error
    return zlib.crc32(content.getbuffer())


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
        # A folder may be called [a].
        glob=False,
        schema=pl.Schema(columns),
        missing_columns="insert",
        include_file_paths=file,
    )
    return frame.with_columns(mend.alias(name) for name, mend in mends.items())


class Checksums:
    """Checks each shard's checksum when it is first read, and again after the file changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mirror = mirror_of(root)
        #: Name -> checksum, of shards that have one; and name -> (bytes, time of change) of those that were right.
        self._known: dict[str, int] = {}
        self._right: dict[str, tuple[int, int]] = {}

    def know(self, shards: Iterable[Shard]) -> None:
        """Take note of these shards' checksums."""
        self._known.update({shard.name: shard.crc32 for shard in shards if shard.crc32 is not None})

    def paths(self, names: Iterable[str]) -> list[Path]:
        """The files of these shards.

        Raises ShardGone where one is not there, ShardDamaged where one is not what was written.
        """
        wanted = list(names)
        if self._mirror is not None:
            self._mirror.fetch(wanted)
        return [self._checked(name) for name in wanted]

    def _checked(self, name: str) -> Path:
        path = self._root / name
        try:
            found = path.stat()
            state = (found.st_size, found.st_mtime_ns)
            if self._right.get(name) == state or name not in self._known:
                return path
            if crc32_of(path) != self._known[name]:
                raise ShardDamaged(f"{path}: damaged (its checksum is another). {_mend(name)}")
        except FileNotFoundError as error:
            raise ShardGone(f"{path}: a committed shard is missing. {_mend(name)}") from error
        except OSError as error:
            raise ShardDamaged(f"{path}: can't be read ({error.strerror}). {_mend(name)}") from error
        self._right[name] = state
        return path


def crc32_of(path: Path) -> int:
    """The checksum of a file. Raises OSError where it can't be read."""
    checksum = 0
    # One buffer that stays in the processor's cache: new ones would take longer than the checksum.
    buffer = memoryview(bytearray(1 << 18))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum = zlib.crc32(buffer[:count], checksum)
    return checksum


def _mend(name: str) -> str:
    return f"Restore it from a backup, or give it up and go on without its rows: flywheel doctor --give-up {name}"


def collect(frame: pl.LazyFrame, paths: Sequence[Path], folder: Path) -> pl.DataFrame:
    """The frame's rows. Raises ShardGone where a file is missing, BorderError where one is damaged."""
    try:
        return frame.collect()
    except (OSError, *POLARS_ERRORS) as error:
        text = " ".join(str(error).split())
        what = f"{folder}: a committed shard is missing or damaged ({text}). 'flywheel doctor' says which."
        raise (ShardDamaged if all(path.exists() for path in paths) else ShardGone)(what) from error


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


def growing_groups(shards: Sequence[Shard], first: int, most: int) -> Iterator[list[Shard]]:
    """The shards in order, in groups of at most ``first`` rows, each time twice as many, up to ``most``."""
    rest = list(shards)
    while rest:
        group = next(groups(rest, first))
        yield group
        rest, first = rest[len(group) :], min(most, 2 * first)


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
