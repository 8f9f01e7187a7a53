"""Quantity and diversity of 100 k, 1 M and 10 M captions: time and peak memory;
against plain Python at 100 k and pandas at 1 M, equal figures first.

    python experiments/bench/metrics.py --out /tmp/metrics

Captions are drawn from 20,000 words by Zipf's law, 6 to 18 words each, a tenth of them said before. Each way runs in a
process of its own, three times where it is short, and the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flywheel.metrics.scale import CHUNK, corpus_figures
from flywheel.metrics.text import distinct, words

SEGMENT = 2000


def make(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = np.array([f"word{i}" for i in range(20_000)])
    chances = 1.0 / np.arange(1, 20_001)
    edges = np.cumsum(chances / chances.sum())
    files = []
    for part, start in enumerate(range(0, count, 500_000)):
        file = folder / f"part-{part:04d}.parquet"
        files.append(file)
        if file.exists():
            continue
        rng = np.random.default_rng([count, part])
        size = min(500_000, count - start)
        lengths = rng.integers(6, 19, size)
        drawn = vocabulary[np.searchsorted(edges, rng.random(int(lengths.sum()))).clip(0, 19_999)]
        pieces = np.split(drawn, np.cumsum(lengths)[:-1])
        texts = [" ".join(p) for p in pieces]
        for i in np.flatnonzero(rng.random(size) < 0.1):
            texts[i] = texts[int(rng.integers(0, size))]
        ids = [f"{a:016x}{i:06x}" for i, a in enumerate(rng.integers(0, 1 << 62, size))]
        pl.DataFrame({"id": ids, "text": texts, "seconds": rng.uniform(2, 20, size)}).write_parquet(file)
    return files


def ours(files: list[Path]) -> dict[str, float]:
    found = corpus_figures(files, segment_tokens=SEGMENT, seconds="seconds")
    return {**found.quantity, **{k: v.value for k, v in found.diversity.items()}}


def chunks(files: list[Path], read: Any) -> Any:
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=CHUNK):
                yield read(batch)


def python(files: list[Path]) -> dict[str, float]:
    count, seconds, tokens = 0, 0.0, 0
    different: set[str] = set()
    rest: list[str] = []
    ones, threes = [], []
    for rows in chunks(files, lambda batch: batch.to_pylist()):
        for row in sorted(rows, key=lambda r: r["id"]):
            count, seconds = count + 1, seconds + row["seconds"]
            different.add(row["text"])
            found = words(row["text"])
            tokens += len(found)
            rest.extend(found)
            while len(rest) >= SEGMENT:
                segment, rest = rest[:SEGMENT], rest[SEGMENT:]
                ones.append(distinct(segment, 1))
                threes.append(distinct(segment, 3))
    return {
        "annotations": count,
        "hours": seconds / 3600,
        "tokens": tokens,
        "distinct_1": float(np.mean(ones)),
        "distinct_3": float(np.mean(threes)),
        "vocabulary": float(np.mean(ones)) * SEGMENT,
        "unique": len(different) / count,
    }


def pandas(files: list[Path]) -> dict[str, float]:
    import pandas as pd

    frame = pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)
    frame = frame.assign(
        chunk=np.concatenate(
            [np.arange(n) // CHUNK + i * 1000 for i, n in enumerate(pd.read_parquet(f).shape[0] for f in files)]
        )
    )
    frame = frame.sort_values(["chunk", "id"])
    stream = frame["text"].str.lower().str.findall(r"[^\W_]+").explode().reset_index(drop=True)
    codes = pd.Series(pd.factorize(stream)[0])
    whole = len(codes) // SEGMENT * SEGMENT
    segment = pd.Series(np.arange(whole) // SEGMENT)
    cut = codes[:whole]
    ones = cut.groupby(segment).nunique() / SEGMENT
    inside = np.arange(whole) % SEGMENT < SEGMENT - 2
    triple = (cut * 40_000 + cut.shift(-1, fill_value=0)) * 40_000 + cut.shift(-2, fill_value=0)
    threes = triple[inside].groupby(segment[inside]).nunique() / (SEGMENT - 2)
    return {
        "annotations": len(frame),
        "hours": float(frame["seconds"].sum()) / 3600,
        "tokens": len(stream),
        "distinct_1": float(ones.mean()),
        "distinct_3": float(threes.mean()),
        "vocabulary": float(ones.mean()) * SEGMENT,
        "unique": frame["text"].nunique() / len(frame),
    }


WAYS = {"ours": ours, "python": python, "pandas": pandas}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--way", nargs=2, default=None, help="one way at one size, as the processes are called")
    arguments = parser.parse_args()
    if arguments.way:
        way, count = arguments.way[0], int(arguments.way[1])
        files = make(arguments.out / str(count), count)
        began = time.perf_counter()
        found = WAYS[way](files)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"way": way, "captions": count, "seconds": seconds, "peak_gib": peak, "figures": found}))
        return
    for count, ways, tries in (
        (100_000, ("ours", "python"), 3),
        (1_000_000, ("ours", "pandas"), 2),
        (10_000_000, ("ours",), 1),
    ):
        make(arguments.out / str(count), count)
        best: dict[str, dict[str, Any]] = {}
        for way in [w for _ in range(tries) for w in ways]:
            command = [sys.executable, __file__, "--out", str(arguments.out), "--way", way, str(count)]
            said = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            if way not in best or said["seconds"] < best[way]["seconds"]:
                best[way] = said
        for way in ways:
            apart = max(abs(best[way]["figures"][k] / v - 1) for k, v in best["ours"]["figures"].items())
            print(
                json.dumps(
                    {
                        **best[way],
                        "apart_from_ours": apart,
                        "times_ours": best[way]["seconds"] / best["ours"]["seconds"],
                    }
                ),
                flush=True,
            )
            assert apart < 1e-9, "equal figures first"


if __name__ == "__main__":
    main()
