"""``kill -9`` at random moments of every command that writes; the same command finishes, nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.store import Workspace

#: Command -> (state before it, how often it is killed).
_KILLS = {
    "ingest": ("empty", 25),
    "annotate": ("ingested", 20),
    "import": ("annotated", 15),
    "export": ("done", 12),
    "promote": ("done", 15),
    "round": ("annotated", 15),
    "takedown": ("done", 15),
    "move-database": ("done", 10),
}


def faults(bed: Bed) -> Iterator[Fault]:
    """131 kills, but for those of servers."""
    rng = random.Random(1)
    whole_s: dict[str, float] = {}
    for command, (state, times) in _KILLS.items():
        for number in range(times):
            at = (number + rng.random()) / times
            yield Fault("kill -9", f"{command} at {at:.2f}", _try(bed, command, state, at, whole_s))


def _try(bed: Bed, command: str, state: str, at: float, whole_s: dict[str, float]) -> Callable[[], str]:
    def attempt() -> str:
        if command not in whole_s:
            root = bed.copy(state)
            outcome = run(*_arguments(bed, command, root))
            if not outcome.clean:
                return f"fails without a kill: {outcome.last()}"
            whole_s[command] = outcome.seconds
        root = bed.copy(state)
        run(*_arguments(bed, command, root), kill_after_s=at * whole_s[command])
        again = run(*_arguments(bed, command, root))
        if command == "move-database":
            return _moved(root, again.text)
        missing = _missing(bed, command, root)
        if not again.clean or (missing and again.code):
            # Done before the kill, some commands say that there is nothing to do: that is no failure.
            return f"exit {again.code}: {again.last()}"
        return "; ".join(problems(root) + missing)

    return attempt


def _arguments(bed: Bed, command: str, root: Path) -> list[object]:
    words: dict[str, list[object]] = {
        "ingest": ["ingest", bed.corpus],
        "annotate": ["annotate"],
        "import": ["corrections", "import", bed.corrections],
        "export": ["export", "--out", root / "taken"],
        "promote": ["promote", 1, "--force", "a try"],
        "round": ["round"],
        "takedown": ["takedown", bed.clips[0], "--reason", "a try", "--yes"],
        "move-database": ["move-database", f"sqlite:///{root}/moved.db"],
    }
    if command == "export" and (root / "taken").exists():
        # It was there before the kill: whole, or it would not be.
        return ["status", "--config", root]
    return [*words[command], "--config", root]


def _missing(bed: Bed, command: str, root: Path) -> list[str]:
    """What the command should have done and did not."""
    w = Workspace.open(root)
    try:
        done = {
            "ingest": w.count("clips") == len(bed.clips),
            "annotate": w.count_texts(1) > 0,
            "import": w.num_corrections() == len(bed.corrections.read_text().splitlines()),
            "export": (root / "taken" / "train.jsonl").exists() and len(w.exports()) == 1,
            "promote": w.champion() == 1,
            "round": w.stage(1, "gate")[0] == "done",
            "takedown": not w.clips_by_id([bed.clips[0]]).height and bed.clips[0] in w.taken_down(),
        }
        return [] if done[command] else [f"{command}: not done"]
    finally:
        w.database.close()


def _moved(root: Path, said: str) -> str:
    """Whatever was killed when, one of the two has everything."""
    url = f"store.database=sqlite:///{root}/moved.db"
    if "rows moved" not in said and "was moved to" not in said:
        return said.strip()[-160:]
    return "; ".join(problems(root, url))
