"""``python -m flywheel.rounds.join WORKSPACE FLAGS``: another machine takes part in a round's trainings.

``FLAGS`` are those of ``accelerate launch``. It goes on until it is stopped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flywheel.core.progress import say
from trainers.launch import read_json

_LOOK_EVERY_S = 1.0


def open_jobs(root: Path, done: set[str]) -> Iterator[tuple[Path, str]]:
    """The folders of trainings that have begun, with the mark of their start; without those that are ``done``."""
    for job in sorted(root.glob("models/round=*/*.ranks/job.json")):
        mark = str(read_json(job).get("started", ""))
        if mark and mark not in done:
            yield job.parent, mark


def join(root: Path, flags: Sequence[str], *, once: bool = False) -> None:
    """Launch this machine's ranks of each training that begins in the workspace; with ``once`` of the first alone."""
    done: set[str] = set()
    while True:
        for folder, mark in open_jobs(root, done):
            say(f"join: {folder}")
            command = [sys.executable, "-m", "accelerate.commands.launch", *flags, "-m", "flywheel.rounds.rank"]
            ended = subprocess.run([*command, str(folder)], check=False)
            say(f"join: {folder}: ended with exit {ended.returncode}")
            done.add(mark)
            if once:
                return
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    join(Path(sys.argv[1]), sys.argv[2:])
