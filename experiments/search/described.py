"""Whether ``flywheel search`` finds the clip that a true description is of.

``python -m experiments.search.described WORKSPACE --out FILE`` takes a workspace that ``flywheel demo --out WORKSPACE``
made, makes its index, and asks for 100 clips by the oracle's descriptions, which no stage has seen. Clips that two
descriptions fit alike are left out. A JSON line: how often the clip is the first, among the first three and the first
ten, with 95 % intervals over descriptions; by all that clips have, and by pictures and sounds alone.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flywheel.metrics.intervals import mean_estimate
from flywheel.search.indexing import index
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace

_FIRST = (1, 3, 10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--asked", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    began = time.process_time()
    with workspace.lock():
        done = index(workspace)
    facts: dict[str, Any] = {"clips": done.clips, "encoder": done.encoder, "texts": done.text}
    facts |= {"steps": workspace.config.index.steps, "index_cpu_s": round(time.process_time() - began, 1)}
    clips = pl.concat(workspace.clip_batches(["id", "uri"])).with_columns(file=pl.col("uri").str.split("/").list.last())
    oracle = pl.read_parquet(arguments.workspace / "oracle.parquet").unique("text", keep="none", maintain_order=True)
    known = clips.join(oracle, on="file").sort("file")
    # A file that is several clips is described by none of them.
    known = known.filter(pl.col("file").is_unique())
    chosen = known.sample(min(arguments.asked, known.height), seed=0)
    facts["asked"] = chosen.height
    searcher = Searcher(workspace)
    for name, by in (("all", ()), ("video", ("video",)), ("sound", ("sound",)), ("text", ("text",))):
        places = [place(searcher, text, clip_id, by) for clip_id, text in chosen.select("id", "text").rows()]
        facts[name] = {
            f"first {k}": {key: round(value, 3) for key, value in asdict(mean_estimate(np.less(places, k))).items()}
            for k in _FIRST
        }
    facts["chance, first 3"] = round(3 / done.clips, 4)
    print(json.dumps(facts), flush=True)
    with arguments.out.open("a") as out:
        out.write(json.dumps(facts) + "\n")


def place(searcher: Searcher, text: str, clip_id: str, by: tuple[str, ...]) -> int:
    """How many clips come before the one that is described; all of them where it is not found."""
    found = searcher.search(SearchQuery(text=text, limit=len(searcher)))
    if by:
        # The same figures, by one modality alone.
        found = sorted((one for one in found if by[0] in one.by), key=lambda one: -one.by[by[0]])
    return next((number for number, one in enumerate(found) if one.clip_id == clip_id), len(searcher))


if __name__ == "__main__":
    main()
