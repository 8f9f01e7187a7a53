"""A workspace on a file system that can only be read: readers work, writers say so in a line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

from experiments.faults.bed import Bed, small_disk
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from experiments.faults.groups.disks import arguments

_READERS = ("status", "show", "report", "compare", "corrections export")
_WRITERS = ("ingest", "annotate", "corrections import", "round", "promote", "rollback", "takedown", "invite", "gold")


def faults(bed: Bed) -> Iterator[Fault]:
    """15 commands."""
    for command in (*_READERS, *_WRITERS, "exclude"):
        yield Fault("read-only workspace", command, _try(bed, command))


def _try(bed: Bed, command: str) -> Callable[[], str]:
    def attempt() -> str:
        source = bed.copy("done")
        out = source.with_name(source.name + "-queue.jsonl")
        with small_disk(source.with_name(source.name + "-disk")) as disk:
            root = disk / "w"
            shutil.copytree(source, root)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            words: list[object] = {
                "show": ["show", bed.clips[0], "--config", root],
                "corrections export": ["corrections", "export", out, "--config", root],
            }.get(command, arguments(bed, command, root))
            outcome = run(*words)
        if not outcome.clean:
            return f"exit {outcome.code}: {outcome.last()}"
        if command in _READERS and outcome.code:
            return f"exit {outcome.code}: {outcome.last()}"
        return "" if command in _READERS or outcome.code else "says that it is done"

    return attempt
