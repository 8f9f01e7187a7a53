"""Another process holds the database for writing: readers go on, writers say so, nothing is half."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from experiments.faults.groups.disks import arguments


def faults(bed: Bed) -> Iterator[Fault]:
    """Five commands."""
    for command, state in (
        ("status", "annotated"),
        ("invite", "annotated"),
        ("ingest", "empty"),
        ("corrections import", "annotated"),
        ("annotate", "ingested"),
    ):
        yield Fault("SQLite locked by another process", command, _try(bed, command, state))


def _try(bed: Bed, command: str, state: str) -> Callable[[], str]:
    def attempt() -> str:
        root = bed.copy(state)
        run("status", "--config", root)
        with closing(sqlite3.connect(root / "flywheel.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outcome = run(*arguments(bed, command, root))
        if not outcome.clean or (outcome.code == 0) != (command == "status"):
            return f"exit {outcome.code}: {outcome.last()}"
        again = run(*arguments(bed, command, root))
        return "; ".join(problems(root)) if again.code == 0 else f"then exit {again.code}: {again.last()}"

    return attempt
