"""A disk that is full under every command: one line, nothing half, and the same command finishes when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.faults.bed import Bed, problems, small_disk
from experiments.faults.commands import run
from experiments.faults.fault import Fault

#: Name -> (state before it, whether it writes nothing that it needs).
_COMMANDS = {
    "ingest": ("empty", False),
    "annotate": ("ingested", False),
    "corrections import": ("annotated", False),
    "corrections export": ("annotated", False),
    "export messages": ("done", False),
    "export hf": ("done", False),
    "round": ("annotated", False),
    "promote": ("done", False),
    "rollback": ("done", False),
    "takedown": ("done", False),
    "takedown file": ("done", False),
    "report": ("done", True),
    "compare": ("done", True),
    "invite": ("annotated", False),
    "gold": ("annotated", False),
    "prune": ("done", True),
    "status": ("annotated", True),
}


def faults(bed: Bed) -> Iterator[Fault]:
    """17 commands on a full disk."""
    for command, (state, reads) in _COMMANDS.items():
        yield Fault("disk full (tmpfs)", command, _try(bed, command, state, reads))


def arguments(bed: Bed, command: str, root: Path) -> list[object]:
    """The words of a command of :data:`_COMMANDS`."""
    words: dict[str, list[object]] = {
        "ingest": ["ingest", bed.corpus],
        "corrections import": ["corrections", "import", bed.corrections],
        "corrections export": ["corrections", "export", root / "queue.jsonl"],
        "export messages": ["export", "--out", root / "taken"],
        "export hf": ["export", "--format", "hf", "--out", root / "taken"],
        "promote": ["promote", 1, "--force", "a try"],
        "rollback": ["rollback", "--to", 0],
        "takedown": ["takedown", bed.clips[0], "--reason", "a try", "--yes"],
        "takedown file": ["takedown", bed.clips[1], "--reason", "a try", "--yes"],
        "report": ["report", 1],
        "compare": ["compare", 0, 1],
        "invite": ["invite", "--name", "ann"],
        "gold": ["gold", bed.corrections],
        "exclude": ["exclude", "ann", "--reason", "a try"],
        "prune": ["prune", "--keep", 9],
    }
    return [*words.get(command, [command]), "--config", root]


def _try(bed: Bed, command: str, state: str, reads: bool) -> Callable[[], str]:
    def attempt() -> str:
        source = bed.copy(state)
        with small_disk(source.with_name(source.name + "-disk")) as disk:
            root = disk / "w"
            shutil.copytree(source, root)
            fill(disk)
            full = run(*arguments(bed, command, root))
            wrong = _wrong(full.code, full.text, reads)
            left = {path.name for path in root.iterdir()} - {path.name for path in source.iterdir()}
            if cut := sorted(name for name in left if name.startswith(("queue", "taken"))):
                wrong = wrong or f"left {cut[0]}"
            (disk / "ballast").unlink()
            again = run(*arguments(bed, command, root))
            # Nothing to go back to, and rows of clips that can't be gold, are for the user to mend.
            if again.code not in (0, 3) and not (command in ("rollback", "gold") and again.code == 2):
                wrong = wrong or f"then exit {again.code}: {again.last()}"
            return wrong or "; ".join(problems(root))

    return attempt


def _wrong(code: int, text: str, reads: bool) -> str:
    if "Traceback" in text:
        return "traceback"
    if reads and code:
        return f"exit {code}: {text.strip()[-160:]}"
    return ""


def fill(disk: Path) -> None:
    """Take all room there is."""
    with open(disk / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)
