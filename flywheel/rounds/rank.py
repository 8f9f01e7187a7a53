"""``python -m flywheel.rounds.rank FOLDER``: one rank of a training whose files are in the folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


class _Nothing:
    """Figures of ranks that do not report."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        pass


def main(folder: Path) -> None:
    """Train as one of several ranks; the process ends with it."""
    from flywheel.core.config import Config
    from flywheel.core.progress import show_with
    from flywheel.rounds.context import RoundContext
    from flywheel.rounds.stages._devices import read_job, run_training, write_result
    from flywheel.store import Workspace
    from trainers.rank import FileSink, StepFile, run_rank

    rank = int(os.environ.get("RANK", "0"))
    root, values, training, strategy = read_job(folder)
    # Each rank keeps pixels and features of its own: together as many as one would.
    for kept in ("pixels_gib", "features_gib"):
        values["corpus"][kept] /= int(os.environ.get("WORLD_SIZE", "1"))

    def work() -> None:
        there = Workspace.open(root)
        # As it stood for the command, whatever was set on its line.
        context = RoundContext(Workspace(root, Config.model_validate(values), there.database))
        show_with(StepFile(folder, rank))
        sink = FileSink(folder / "figures.jsonl") if rank == 0 else _Nothing()
        result = run_training(context, training, sink, strategy)
        if rank == 0:
            write_result(folder, result)

    run_rank(folder, work, section=training.stage)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
