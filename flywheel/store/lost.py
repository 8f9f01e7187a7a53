"""Files that no commit names: moved aside into ``lost/``, never deleted, for they could be data.

A killed writer leaves such files, and so does a database that does not know all records.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from flywheel.core.progress import say
from flywheel.store.columns import SCHEMAS
from flywheel.store.shards import POLARS_ERRORS, write_shard

FOLDER = "lost"
#: Where damaged files go, of which nothing is taken in again.
DAMAGED = f"{FOLDER}/damaged"


def set_aside(root: Path, names: Iterable[str]) -> int:
    """Move these files of the workspace into ``lost/``, under their names; returns how many were moved.

    One that can't be moved stays where it is, where nobody reads it.
    """
    moved = sum(move(root, name) for name in names)
    if moved:
        say(
            f"records: {moved} shard{'s' * (moved != 1)} that no commit names, such as a killed command leaves, "
            f"moved to {root / FOLDER}; 'flywheel doctor' says what is in there"
        )
    return moved


def move(root: Path, name: str, folder: str = FOLDER) -> bool:
    """Move a file of the workspace into a folder, under its name; returns whether it was there and is moved."""
    target = root / folder / name
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(root / name, target)
        return True
    return False


def lost_files(root: Path, kind: str) -> Iterator[Path]:
    """The shards of a kind that were moved aside, damaged ones too."""
    for folder in (FOLDER, DAMAGED):
        yield from (root / folder / kind).rglob("part-*.parquet")


def remove_lost(root: Path, kind: str, which: pl.Expr) -> None:
    """Remove such rows from the shards that were moved aside: what is taken down must be nowhere.

    A file that can't be read any more is named, and left to its owner.
    """
    for file in lost_files(root, kind):
        try:
            frame = pl.read_parquet(file, hive_partitioning=False, glob=False)
            gone = frame.filter(which)
        except (OSError, *POLARS_ERRORS):
            say(f"{file}: can't be read, and may hold what was taken down. Delete it if it must be nowhere.")
            continue
        if gone.height == frame.height:
            file.unlink()
        elif gone.height:
            write_shard(frame.filter(~which), file)


def lost_kinds(root: Path) -> dict[str, int]:
    """Kind -> number of its shards that were moved aside, of kinds that have some."""
    counts = {kind: sum(1 for _ in lost_files(root, kind)) for kind in SCHEMAS}
    return {kind: count for kind, count in counts.items() if count}
