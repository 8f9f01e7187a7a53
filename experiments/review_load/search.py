"""How long the lead's Clips view takes on many texts: first page, search, one clip.

    python experiments/review_load/search.py --folder /tmp/search [--size 1000000]

A workspace is written as ingest and annotation leave it once its shards are merged: clips are spans of files that
nobody opens, each with one text of round 1. It is kept in ``--folder`` and used again. Each question is asked of the
view itself, five times; prints the median and the longest answer of each in the processor's ms (all threads), and for a
search that takes several answers how many and how long all of them took.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from growth import clip, text

from flywheel.core.config import template
from flywheel.store import Workspace
from flywheel.store.shards import SHARD_ROWS
from human_refine import browsing
from human_refine.browsing import Query
from human_refine.texts import TextIndex


def prepared(folder: Path, size: int) -> Workspace:
    root = folder / str(size)
    if not (root / "flywheel.yaml").exists():
        Workspace.create(root, template())
    workspace = Workspace.open(root)
    if not (root / "whole").exists():
        with workspace.lock(tidy=False):
            # Where a run was killed, it goes on.
            done = workspace.count("annotations") // SHARD_ROWS * SHARD_ROWS
            for start in range(done, size, SHARD_ROWS):
                numbers = range(start, min(size, start + SHARD_ROWS))
                workspace.records.append("clips", [clip(i) for i in numbers])
                workspace.records.append("annotations", [text(i) for i in numbers], round=1)
        (root / "whole").touch()
    return workspace


def all_answers(workspace: Workspace, index: TextIndex, query: Query) -> list[float]:
    """The processor's milliseconds of each answer until the search fills a page or ends, as the page asks."""
    times: list[float] = []
    found, cursor = 0, ""
    while True:
        start = time.process_time()
        answer = browsing.find(workspace, index, Query(**{**vars(query), "cursor": cursor}))
        times.append((time.process_time() - start) * 1000)
        found, cursor = found + len(answer.clips), answer.cursor
        if not cursor or found >= 25:
            return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1_000_000)
    given = parser.parse_args()
    workspace = prepared(given.folder, given.size)
    start = time.process_time()
    index = TextIndex(workspace=workspace, signals=("doubt",)).refreshed()
    print(f"index of {given.size} texts: {time.process_time() - start:.1f} s of the processor")
    last = str(given.size - 1)
    queries = {
        "first page": Query(),
        "anchors": Query(split="anchor"),
        "a common word": Query(words="ball"),
        "two words": Query(words="ball sleeps"),
        "one text, the last": Query(words=last),
        "a word that nobody says": Query(words="zebra"),
        "a clip's id": Query(words=str(clip(given.size // 2)["id"])),
    }
    for name, query in queries.items():
        runs = [all_answers(workspace, index, query) for _ in range(5)]
        each = [ms for run in runs for ms in run]
        print(
            f"{name}: median {statistics.median(each):.0f} ms, longest {max(each):.0f} ms an answer; "
            f"{len(runs[-1])} answers, {statistics.median(map(sum, runs)) / 1000:.2f} s in all"
        )
    times = []
    for number in range(0, given.size, given.size // 5):
        start = time.process_time()
        workspace.records.of_clips("annotations", [str(clip(number)["id"])])
        times.append((time.process_time() - start) * 1000)
    print(f"all texts of one clip: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")


if __name__ == "__main__":
    main()
