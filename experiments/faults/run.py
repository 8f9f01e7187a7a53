"""Faults injected into real workspaces by real commands: kills, full disks, lost databases, hostile files, and more.

    python -m experiments.faults.run                            # all of it
    python -m experiments.faults.run --results faults.jsonl     # goes on where it was cut off
    python -m experiments.faults.run --only database,shards     # some groups
    python -m experiments.faults.run --share .1                 # a tenth of each group

Prints a line for each fault that went wrong, a table of groups, and how many failed. Needs root, for mounts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from experiments.faults import groups
from experiments.faults.fault import Fault
from experiments.faults.results import Result, Results


def main() -> int:
    """Run the groups; returns the exit code, 1 where a fault went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of each group's faults, spread over it")
    parser.add_argument("--only", default="", help="groups, with commas")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if left out")
    parser.add_argument("--results", type=Path, help="JSON lines; what passed by them is not done again")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="flywheel-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.results or folder / "results.jsonl")
    os.environ.update(FAULTS_FOLDER=str(folder), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    for fault in _faults(folder, options.only, options.share):
        if not results.passed(fault.group, fault.name):
            results.add(_tried(fault))
            shutil.rmtree(folder / "tried", ignore_errors=True)
    print(f"\n{results.table()}")
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if results.failed() else 0


def _faults(folder: Path, only: str, share: float) -> Iterator[Fault]:
    """The faults of the groups, one after the other."""
    from experiments.faults.bed import Bed

    bed, step = Bed(folder), max(1, round(1 / share))
    # The many kills last: what else goes wrong is found early.
    for name in sorted((info.name for info in pkgutil.iter_modules(groups.__path__)), key=lambda n: (n == "kills", n)):
        if not only or name in only.split(","):
            all_faults = list(importlib.import_module(f"experiments.faults.groups.{name}").faults(bed))
            yield from all_faults[::step]
            print(f"{name}: done", flush=True)


def _tried(fault: Fault) -> Result:
    began = time.monotonic()
    try:
        wrong = fault.attempt()
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"{type(error).__name__}: {str(error)[:200]} ({Path(line.filename).name}:{line.lineno})"
    if wrong:
        print(f"FAILED {fault.group}: {fault.name}: {wrong}", flush=True)
    return Result(group=fault.group, fault=fault.name, wrong=wrong, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    raise SystemExit(main())
