"""A shard cut, deleted, overwritten, and 300 with one flipped bit: every one is noticed and can be given up by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.core.errors import BorderError
from flywheel.store import Workspace

_FLIPS = 300


def faults(bed: Bed) -> Iterator[Fault]:
    """Four kinds of damage, and the flips."""
    harms: dict[str, Callable[[Path], object]] = {
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
        "deleted": lambda path: path.unlink(),
        "garbage": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
        "overwritten bytes": lambda path: _overwrite(path),
    }
    for name, harm in harms.items():
        yield Fault("Parquet shard", name, _try(bed, harm))
    rng = random.Random(2)
    for number in range(_FLIPS):
        yield Fault("single bit flips in a shard", str(number), _flip(bed, rng.random()))


def _try(bed: Bed, harm: Callable[[Path], object]) -> Callable[[], str]:
    def attempt() -> str:
        root = bed.copy("annotated")
        before, name = _texts(root), _shard(root, "annotations")
        harm(root / name)
        if (status := run("status", "--config", root)).code:
            return f"status: exit {status.code}: {status.last()}"
        found = run("doctor", "--config", root)
        if name not in found.text:
            return "doctor does not name it"
        given_up = run("doctor", "--give-up", name, "--config", root)
        if given_up.code:
            return f"exit {given_up.code}: {given_up.last()}"
        # What came with the videos is taken in again, what models wrote is written again.
        for again in (run("ingest", bed.corpus, "--config", root), run("annotate", "--config", root)):
            if again.code:
                return f"then exit {again.code}: {again.last()}"
        if _texts(root) != before:
            return "other texts than before"
        return "; ".join(problems(root))

    return attempt


def _flip(bed: Bed, where: float) -> Callable[[], str]:
    def attempt() -> str:
        root = bed.folder / "beds" / "done"
        path = root / _shard(root, "generations")
        content = path.read_bytes()
        place = int(where * len(content) * 8)
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        workspace = Workspace.open(root)
        try:
            workspace.generations()
            return "unnoticed"
        except BorderError:
            return ""
        finally:
            workspace.database.close()
            path.write_bytes(content)

    return attempt


def _overwrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(bytes(40))


def _shard(root: Path, kind: str) -> str:
    workspace = Workspace.open(root)
    try:
        return max(workspace.records.shards(kind), key=lambda shard: shard.num_rows).name
    finally:
        workspace.database.close()


def _texts(root: Path) -> set[tuple[object, ...]]:
    workspace = Workspace.open(root)
    try:
        return set(workspace.annotations().rows())
    finally:
        workspace.database.close()
