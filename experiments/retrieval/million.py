"""What the index costs. ``python -m experiments.retrieval.million FOLDER --clips 100000 --width 64`` writes clips'
vectors as records, makes the files and searches them. A JSON line with seconds (CPU and wall), bytes and versions.

``--bare`` leaves the records out and multiplies a mapped matrix of that size alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.core.config import template
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex, folder_of, vector_row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bare", action="store_true")
    arguments = parser.parse_args()
    facts: dict[str, Any] = {"clips": arguments.clips, "width": arguments.width, "bare": arguments.bare}
    if arguments.bare:
        index = _bare(arguments.folder, arguments.clips, arguments.width)
    else:
        index = _recorded(arguments.folder, arguments.clips, arguments.width, facts)
    rng, times = np.random.default_rng(1), []
    for _ in range(8):
        query = rng.normal(size=arguments.width).astype(np.float32)
        began = time.process_time()
        index.similarities("video", query)
        times.append(1000 * (time.process_time() - began))
    facts |= {"query_cpu_ms": round(float(np.median(times)), 1), "query_first_ms": round(times[0], 1)}
    facts["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(facts | {"numpy": np.__version__, "threads": os.environ.get("OMP_NUM_THREADS", "")}), flush=True)


def _recorded(folder: Path, clips: int, width: int, facts: dict[str, Any]) -> VectorIndex:
    Workspace.create(folder, template())
    workspace, rng = Workspace.open(folder), np.random.default_rng(0)
    began = time.process_time()
    with workspace.lock():
        for start in range(0, clips, 2048):
            vectors = rng.normal(size=(min(2048, clips - start), width)).astype(np.float32)
            workspace.add_vectors(
                [vector_row("m", "video", f"{start + i:064d}", vector) for i, vector in enumerate(vectors)]
            )
    facts["records_cpu_s"] = round(time.process_time() - began, 1)
    began = time.process_time()
    index = VectorIndex.open(workspace, "m", width)
    facts["files_cpu_s"] = round(time.process_time() - began, 1)
    facts["files_mib"] = sum(f.stat().st_size for f in folder_of(workspace.root).rglob("*") if f.is_file()) >> 20
    began = time.process_time()
    VectorIndex.open(workspace, "m", width)
    facts["open_cpu_ms"] = round(1000 * (time.process_time() - began), 1)
    return index


def _bare(folder: Path, clips: int, width: int) -> VectorIndex:
    folder.mkdir(parents=True, exist_ok=True)
    matrix = np.lib.format.open_memmap(folder / "video.npy", "w+", "<f2", (clips, width))
    rng = np.random.default_rng(0)
    for start in range(0, clips, 65_536):
        part = matrix[start : start + 65_536]
        part[:] = rng.normal(size=part.shape).astype(np.float16)
    matrix.flush()
    np.save(folder / "ids.npy", np.zeros(clips, "S1"))
    np.save(folder / "has-video.npy", np.ones(clips, np.bool_))
    (folder / "facts.json").write_text(json.dumps({"width": width, "modalities": ["video"]}))
    return VectorIndex(folder)


if __name__ == "__main__":
    main()
