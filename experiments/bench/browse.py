"""How long the lists of clips and the status take on many texts.

    python experiments/bench/browse.py --folder /tmp/browse [--size 1000000]

A workspace is written as ingest and annotation leave it: clips are spans of files that nobody opens, each with one text
of round 1. It is kept in ``--folder`` and used again. Each question is asked of the functions that the commands call,
five times in one process, so that start-up (some .5 s a command) is not counted. Prints one JSON line per question:
median and longest, ms, and the least CPU time, which other work on the machine lengthens little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.core.config import template
from flywheel.core.types import CAPTION, LEARN, content_id, form_of
from flywheel.rounds.outlook import outlook_of
from flywheel.status import status_of
from flywheel.store import Workspace
from flywheel.store.browse import ClipQuery, find_clips
from flywheel.store.shards import SHARD_ROWS
from flywheel.store.word_index import WordIndex

sys.path.insert(0, str(Path(__file__).parents[1] / "review_load"))
from growth import clip, text


def prepared(folder: Path, size: int) -> Workspace:
    """The workspace with so many clips and texts, written where it is not there."""
    root = folder / str(size)
    is_new = not (root / "whole").exists()
    if is_new:
        Workspace.create(root, template())
    workspace = Workspace.open(root)
    if is_new:
        with workspace.lock():
            for start in range(0, size, SHARD_ROWS):
                numbers = range(start, min(size, start + SHARD_ROWS))
                workspace.records.append("clips", [clip(i) for i in numbers])
                workspace.records.append("annotations", [_text(i) for i in numbers], round=1)
            workspace.begin_round(1, ("annotate", "review", "gate"))
            workspace.set_stage(1, "annotate", "done", {"annotations": size})
        (root / "whole").touch()
    return workspace


def indexed(workspace: Workspace, size: int) -> dict[str, Any]:
    """Make the index of words anew; returns processor µs and bytes for each row of clips and texts."""
    folder = workspace.root / "cache" / "words"
    shutil.rmtree(folder, ignore_errors=True)
    worked = time.process_time()
    WordIndex(workspace.records).complete()
    took, rows = time.process_time() - worked, 2 * size
    num_bytes = sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0
    per_row = {"cpu_us_a_row": round(1e6 * took / rows, 2), "bytes_a_row": round(num_bytes / rows, 1)}
    return {"what": "index of words", "size": size, **per_row}


def _text(number: int) -> dict[str, Any]:
    """A caption under the key that annotation gives it."""
    row = text(number)
    return {**row, "id": content_id(1, form_of(CAPTION, LEARN), row["clip_id"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1_000_000)
    arguments = parser.parse_args()
    workspace = prepared(arguments.folder, arguments.size)
    print(json.dumps(indexed(workspace, arguments.size)), flush=True)
    word = workspace.texts(1, "learn", "text")["text"][arguments.size // 2].split()[0]
    name = workspace.clips_by_id(workspace.records.keys_from("clips", "0")[:1])["uri"][0]
    far = min(50_000, arguments.size // 2)
    behind = find_clips(workspace, ClipQuery(offset=far - 1, limit=1)).after
    hit = find_clips(workspace, ClipQuery(search=word, offset=min(far, arguments.size // 20) - 1, limit=1)).after
    questions: dict[str, Callable[[], object]] = {
        "first page": lambda: find_clips(workspace, ClipQuery()),
        "page of a split": lambda: find_clips(workspace, ClipQuery(split="anchor")),
        "page 50,000 clips on": lambda: find_clips(workspace, ClipQuery(offset=far)),
        "page behind the 50,000th clip": lambda: find_clips(workspace, ClipQuery(after=behind)),
        "search, common word": lambda: find_clips(workspace, ClipQuery(search=word)),
        "search, common word, behind the 50,000th": lambda: find_clips(workspace, ClipQuery(search=word, after=hit)),
        "search, no hit": lambda: find_clips(workspace, ClipQuery(search="no-such-word")),
        "search, a word and one that stands nowhere": lambda: find_clips(workspace, ClipQuery(search=f"{word} zebra")),
        "of a folder": lambda: find_clips(workspace, ClipQuery(source=name)),
        "outlook": lambda: outlook_of(workspace),
        "status": lambda: status_of(workspace),
    }
    for what, ask in questions.items():
        took, cpu = list[float](), list[float]()
        for _ in range(5):
            began, worked = time.perf_counter(), time.process_time()
            ask()
            took.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - worked))
        figures = {"median_ms": round(statistics.median(took), 1), "longest_ms": round(max(took), 1)}
        figures["cpu_ms"] = round(min(cpu), 1)
        print(json.dumps({"what": what, "size": arguments.size, **figures}), flush=True)


if __name__ == "__main__":
    main()
