"""What an index of many vectors costs, and what its graph finds.

``python -m experiments.bench.ann FOLDER --clips 100000 --width 256 --out FILE`` writes vectors as records, makes the
files and the graph of them, adds a thousand clips, and asks. A JSON line: seconds of processor and wall, bytes, and
recall@10 of the graph against a look at all, for several numbers of candidates.

``--vectors structured`` are 48 latent numbers, mixed, with noise (clusters find themselves: they would tell nothing);
``--vectors encoder`` are what a ``trimodal`` encoder of this width, trained for ``--steps``, makes of captions of the
playground's audio-visual world.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.config import template
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex, vector_row

#: Vectors that are made and recorded at a time.
_TOGETHER = 8192
_MORE, _QUERIES = 1000, 100
#: Gives some vectors, unit length (n, D), others at each call.
Source = Callable[[int], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vectors", choices=["structured", "encoder"], default="structured")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    facts: dict[str, Any] = {name: getattr(arguments, name) for name in ("clips", "width", "vectors", "threads")}
    if arguments.vectors == "structured":
        source = structured(arguments.width)
    else:
        source, facts["steps"] = encoded(arguments.width, arguments.steps), arguments.steps
    Workspace.create(arguments.folder, template())
    workspace = Workspace.open(arguments.folder)
    with workspace.lock():
        with timed(facts, "records"):
            record(workspace, source, range(arguments.clips))
        measure(workspace, arguments.width, arguments.threads, facts)
        with timed(facts, f"records_{_MORE}"):
            record(workspace, source, range(arguments.clips, arguments.clips + _MORE))
        with timed(facts, f"files_{_MORE}"):
            index = VectorIndex.open(workspace, "m", arguments.width)
        facts["rest"] = _MORE
        facts["found_with_rest"] = asked(index, source(_QUERIES), (256,))
        with timed(facts, f"graph_{_MORE}"):
            facts["graph_took_in"] = index.update_graphs(0, arguments.threads)["video"]
    facts["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    facts |= {name: version(name) for name in ("usearch", "numpy")}
    print(json.dumps(facts), flush=True)
    with arguments.out.open("a") as out:
        out.write(json.dumps(facts) + "\n")


def measure(workspace: Workspace, width: int, threads: int, facts: dict[str, Any]) -> None:
    """Note what files and graph of all vectors cost and find; printed too, should the rest be stopped."""
    with timed(facts, "files"):
        index = VectorIndex.open(workspace, "m", width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with timed(facts, "graph"):
        index.update_graphs(0, threads)
    facts["graph_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - before
    facts["graph_file_mib"] = sum(file.stat().st_size for file in index.folder.glob("*.usearch")) >> 20
    facts["files_mib"] = sum(file.stat().st_size for file in index.folder.iterdir()) >> 20
    with timed(facts, "open"):
        index = VectorIndex.open(workspace, "m", width)
        index.has_graph("video")
    # Other vectors of the same kind.
    places = np.sort(np.random.default_rng(5).choice(len(index), _QUERIES, replace=False))
    queries = index.vectors("video", places).astype(np.float32)
    noise = np.random.default_rng(6).normal(size=queries.shape).astype(np.float32) / np.sqrt(width)
    print(json.dumps(facts), flush=True)
    facts["found"] = asked(index, unit(queries + 0.5 * noise), (64, 128, 256, 512, 1024))
    print(json.dumps(facts), flush=True)


def asked(index: VectorIndex, queries: NDArray[np.float32], counts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Candidates -> recall@10 after they were ranked exactly, and milliseconds a query; "all" is a look at each."""
    truth, began = [], time.process_time()
    for query in queries:
        similarities = index.similarities("video", query)
        truth.append(set(np.argpartition(-similarities, 10)[:10]))
    found = {"all": {"recall": 1.0, "cpu_ms": 1000 * (time.process_time() - began) / len(queries)}}
    for candidates in counts:
        index.nearest("video", queries[0], candidates)
        hits, times, cpu = 0, [], time.process_time()
        for query, best in zip(queries, truth, strict=True):
            began = time.perf_counter()
            near = index.nearest("video", query, candidates)
            similarities = index.similarities("video", query, near)
            hits += len(best & set(near[np.argpartition(-similarities, 10)[:10]]))
            times.append(1000 * (time.perf_counter() - began))
        found[str(candidates)] = {
            "recall": round(hits / 10 / len(queries), 4),
            "cpu_ms": round(1000 * (time.process_time() - cpu) / len(queries), 2),
            "median_ms": round(float(np.median(times)), 2),
        }
    return found


def record(workspace: Workspace, source: Source, clips: range) -> None:
    """Put so many vectors on record."""
    for start in range(clips.start, clips.stop, _TOGETHER):
        some = range(start, min(start + _TOGETHER, clips.stop))
        vectors = source(len(some))
        workspace.add_vectors(
            [vector_row("m", "video", f"{clip:024x}", v) for clip, v in zip(some, vectors, strict=True)]
        )


def structured(width: int) -> Source:
    """Vectors of 48 latent numbers with noise."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(48, width)).astype(np.float32) / np.sqrt(48)

    def more(number: int) -> NDArray[np.float32]:
        latent = rng.normal(size=(number, 48)).astype(np.float32)
        return unit(latent @ basis + 0.3 * rng.normal(size=(number, width)).astype(np.float32))

    return more


def encoded(width: int, steps: int) -> Source:
    """Vectors of captions by an encoder that was trained on them."""
    import tempfile

    import torch

    from experiments.retrieval.playground import Rendered, timelines
    from flywheel.models import encoders
    from flywheel.playground import av
    from trainers.contrastive import ContrastiveSettings, train_encoder

    torch.manual_seed(0)
    encoder = encoders.build("trimodal", width=width, local_weight=0.0)
    data = [Rendered(encoder, timelines(first, number, held_out=False)) for first, number in ((0, 400), (10**6, 64))]
    with tempfile.TemporaryDirectory() as folder:
        train_encoder(
            encoder, *data, Path(folder) / "e", ContrastiveSettings(steps=steps, batch=32, chunk=32, rate=1e-3)
        )
    seeds = count(2 * 10**6)

    def more(number: int) -> NDArray[np.float32]:
        texts = [av.caption(av.sample(next(seeds))) for _ in range(number)]
        vectors: NDArray[np.float32] = encoder.embed_text(texts).numpy()
        return vectors

    return more


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors at length 1."""
    lengthened: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return lengthened


@contextmanager
def timed(facts: dict[str, Any], name: str) -> Iterator[None]:
    """Note the seconds of processor and wall of what is done within."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    facts[f"{name}_cpu_s"] = round(time.process_time() - cpu, 2)
    facts[f"{name}_s"] = round(time.perf_counter() - wall, 2)


if __name__ == "__main__":
    main()
