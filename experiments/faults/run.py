"""Faults injected into real workspaces by real commands: kills, full disks, lost databases, damaged shards, clocks.

    python -m experiments.faults.run                       # all of it
    python -m experiments.faults.run --share .1            # a tenth of each group
    python -m experiments.faults.run --only database,shards

Prints a line for each fault that went wrong, a table of groups, and how many failed. Needs root, for mounts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from experiments.faults import groups


def main() -> int:
    """Run the groups; returns the exit code, 1 where a fault went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of each group's faults, spread over it")
    parser.add_argument("--only", default="", help="groups, with commas")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if left out")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="flywheel-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(FAULTS_FOLDER=str(folder), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    from experiments.faults.bed import Bed

    bed = Bed(folder)
    tried, failed = Counter[str](), Counter[str]()
    for module in sorted(info.name for info in pkgutil.iter_modules(groups.__path__)):
        if options.only and module not in options.only.split(","):
            continue
        all_faults = list(importlib.import_module(f"experiments.faults.groups.{module}").faults(bed))
        step = max(1, round(1 / options.share))
        for fault in all_faults[::step]:
            tried[fault.group] += 1
            if wrong := _attempt(fault.attempt):
                failed[fault.group] += 1
                print(f"FAILED {fault.group}: {fault.name}: {wrong}", flush=True)
            shutil.rmtree(folder / "tried", ignore_errors=True)
        print(f"{module}: done", flush=True)
    print("\n| group | injected | failed |\n|---|---|---|")
    for group, count in tried.items():
        print(f"| {group} | {count} | {failed[group]} |")
    print(f"\n{failed.total()} failed of {tried.total()}")
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _attempt(work: object) -> str:
    try:
        assert callable(work)
        return str(work())
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(line.filename).name}:{line.lineno})"


if __name__ == "__main__":
    raise SystemExit(main())
