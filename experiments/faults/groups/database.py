"""The database deleted, emptied, put back from a backup, or damaged: said, no shard touched, and repaired."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.store import Workspace

Harm = Callable[[Bed, Path], None]


def faults(bed: Bed) -> Iterator[Fault]:
    """Eight states."""
    harms: dict[str, Harm] = {
        "deleted": lambda _, root: _remove(root),
        "0 bytes": _empty,
        "yesterday's": _yesterdays,
        "a letter of a shard's name": _letter,
        "half": lambda _, root: _cut(root, 0.5),
        "header zeroed": lambda _, root: _overwrite(root, 0, bytes(100)),
        "200 bytes changed": lambda _, root: _overwrite(root, 9000, random.Random(0).randbytes(200)),
        "last 8 kB gone": lambda _, root: _cut(root, -8192),
    }
    for name, harm in harms.items():
        yield Fault("flywheel.db", name, _try(bed, harm))


def _try(bed: Bed, harm: Harm) -> Callable[[], str]:
    def attempt() -> str:
        root = bed.copy("done")
        before = _rows(root)
        _checkpoint(root)
        files = _shards(root)
        harm(bed, root)
        outcome = run("ingest", bed.corpus, "--config", root)
        if not outcome.clean:
            return f"exit {outcome.code}: {outcome.last()}"
        if gone := files - _shards(root):
            return f"{len(gone)} shards are no more what they were"
        if outcome.code == 0:
            # Where the harm hit what is not read, all goes on.
            return "; ".join(problems(root))
        repaired = run("doctor", "--repair", "--config", root)
        if repaired.code:
            return f"repair: exit {repaired.code}: {repaired.last()}"
        if gone := files - _shards(root):
            return f"after the repair {len(gone)} shards are no more what they were"
        again = run("ingest", bed.corpus, "--config", root)
        if again.code:
            return f"after the repair: exit {again.code}: {again.last()}"
        if _rows(root) != before:
            return "after the repair: other rows"
        return "; ".join(problems(root))

    return attempt


def _rows(root: Path) -> dict[str, list[str]]:
    workspace = Workspace.open(root)
    try:
        kinds = ("clips", "generations", "annotations")
        return {kind: sorted(workspace.records.read(kind, columns=["id"])["id"]) for kind in kinds}
    finally:
        workspace.database.close()


def _shards(root: Path) -> set[bytes]:
    return {path.read_bytes() for path in root.rglob("part-*.parquet")}


def _checkpoint(root: Path) -> None:
    with closing(sqlite3.connect(root / "flywheel.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove(root: Path) -> None:
    for end in ("", "-wal", "-shm"):
        (root / f"flywheel.db{end}").unlink(missing_ok=True)


def _empty(_: Bed, root: Path) -> None:
    _remove(root)
    (root / "flywheel.db").touch()


def _yesterdays(bed: Bed, root: Path) -> None:
    _remove(root)
    shutil.copy(bed.folder / "beds" / "annotated" / "flywheel.db", root / "flywheel.db")


def _letter(_: Bed, root: Path) -> None:
    with closing(sqlite3.connect(root / "flywheel.db")) as connection:
        connection.execute("UPDATE shards SET name = replace(name, 'part-', 'parT-') WHERE kind = 'clips'")
        connection.commit()


def _cut(root: Path, share: float) -> None:
    size = (root / "flywheel.db").stat().st_size
    os.truncate(root / "flywheel.db", int(size * share) if share > 0 else size + int(share))


def _overwrite(root: Path, place: int, content: bytes) -> None:
    with open(root / "flywheel.db", "r+b") as file:
        file.seek(place)
        file.write(content)
