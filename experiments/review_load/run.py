"""Fifty refiners at once on ten thousand clips: how long does a refiner wait, and is any correction lost?

    python experiments/review_load/run.py [--refiners 50] [--clips 10000] [--minutes 3] [--pause 5] [--kills 3]

The real server over a real workspace on loopback. Each refiner takes the next clip, thinks for ``--pause`` seconds
(0.5 to 1.5 times) and saves an edit; then the server is killed with SIGKILL and started again ``--kills`` times under
load. One JSON line: waiting times of next and save (quartiles, 95th and 99th percentile), corrections that the server
acknowledged, and of those lost, or given to two people.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from flywheel.core.config import template
from flywheel.core.types import Annotation, content_id
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.store import Workspace
from flywheel.store.view import clip_of
from human_refine.people import invite


def prepare(root: Path, clips: int) -> Workspace:
    write_playground(root / "playground", num_clips=20, seed=5, noise_rate=0.3)
    Workspace.create(root / "w", template())
    workspace = Workspace.open(root / "w", ["tracking.enabled=false", "corpus.test_share=0"])
    with workspace.lock():
        ingest(workspace, [str(root / "playground" / "corpus")])
        videos = [clip_of(row) for row in workspace.clips().iter_rows(named=True)]
        made = []
        for index in range(clips - len(videos)):
            clip = videos[index % len(videos)]
            start_s = clip.start_s + 0.0005 * (1 + index // len(videos))
            split = "anchor" if index % 10 == 0 else "train"
            made.append(
                replace(clip, id=content_id(clip.id, start_s), start_s=start_s, split=split)  # type: ignore[arg-type]
            )
        workspace.add_clips(made)
        texts = [
            Annotation(
                id=content_id("a", c.id),
                round=1,
                kind="caption",
                clip_id=c.id,
                generation_id="",
                source="model",
                text=f"A clip that shows number {i}.",
                mean_logprob=-(i % 97) / 97,
            )
            for i, c in enumerate([*videos, *made])
        ]
        workspace.add_annotations(texts, 1)
    return workspace


class Server:
    def __init__(self, root: Path) -> None:
        self._root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "flywheel.cli",
            "review",
            "--config",
            str(self._root),
            "--port",
            str(self.port),
            "--set=review.overlap_share=0",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def work(number: int, url: str, token: str, pause: float, until: float, out: dict[str, Any]) -> None:
    rng = random.Random(number)
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    time.sleep(rng.uniform(0, pause))
    while time.monotonic() < until:
        try:
            began = time.perf_counter()
            answer = client.post("/api/next", json={})
            out["next"].append(time.perf_counter() - began)
            item = answer.json()["item"]
            if item is None:
                return
            out["shown"].append(item["annotation_id"])
            time.sleep(rng.uniform(0.5, 1.5) * pause)
            body = {
                "annotation_id": item["annotation_id"],
                "verdict": "edit",
                "text": f"Seen by {number}: {rng.random()}",
                "seconds": pause,
                "base": item["base"],
                "save_id": f"{number:04d}-{len(out['shown']):08d}",
            }
            while True:
                began = time.perf_counter()
                try:
                    answer = client.post("/api/corrections", json=body)
                except httpx.HTTPError:
                    # As the page does: what was written is kept, and sent again.
                    time.sleep(0.3)
                    continue
                out["save"].append(time.perf_counter() - began)
                break
            if answer.status_code == 200:
                out["kept"][answer.json()["id"]] = (item["annotation_id"], body["text"])
            else:
                out["refused"][answer.status_code] += 1
        except httpx.HTTPError:
            time.sleep(0.3)


def percentiles(values: list[float]) -> dict[str, float]:
    found = np.quantile(values, [0.25, 0.5, 0.75, 0.95, 0.99, 1]) * 1000
    return {
        name: round(float(v), 1)
        for name, v in zip(("25 %", "50 %", "75 %", "95 %", "99 %", "most"), found, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refiners", type=int, default=50)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder), options.clips)
        tokens = [invite(workspace, f"refiner {i}", "refiner") for i in range(options.refiners)]
        server = Server(workspace.root)
        result: dict[str, Any] = {}
        kept: dict[str, tuple[str, str]] = {}
        shown: list[str] = []
        for phase, kills in (("load", 0), ("load and kills", options.kills)):
            outs = [{"next": [], "save": [], "shown": [], "kept": {}, "refused": Counter()} for _ in tokens]
            until = time.monotonic() + options.minutes * 60 * (1.0 if not kills else 0.5)
            threads = [
                threading.Thread(
                    target=work, args=(i, f"http://127.0.0.1:{server.port}", token, options.pause, until, outs[i])
                )
                for i, token in enumerate(tokens)
            ]
            for thread in threads:
                thread.start()
            rng = random.Random(1)
            for _ in range(kills):
                time.sleep(max(2.0, options.minutes * 30 / (kills + 1) * rng.uniform(0.5, 1.2)))
                server.kill()
                server.start()
            for thread in threads:
                thread.join()
            result[phase] = {
                "next, ms": percentiles([v for o in outs for v in o["next"]]),
                "save, ms": percentiles([v for o in outs for v in o["save"]]),
                "saved": sum(len(o["kept"]) for o in outs),
                "refused": dict(sum((o["refused"] for o in outs), Counter())),
                "kills": kills,
            }
            for o in outs:
                kept |= o["kept"]
                shown += o["shown"]
        server.kill()
        rows = {row["id"]: (row["annotation_id"], row["text"]) for row in workspace.corrections().iter_rows(named=True)}
        people = Counter(row["annotation_id"] for row in workspace.corrections().iter_rows(named=True))
        lost = sum(rows.get(key) != value for key, value in kept.items())
        doubled = sum(count > 1 for count in people.values())
        result |= {
            "acknowledged": len(kept),
            "lost": lost,
            "given to two people": doubled,
            "refiners": options.refiners,
            "clips": options.clips,
            "cpus": os.cpu_count(),
        }
        print(json.dumps(result))
        sys.exit(bool(lost or doubled))


if __name__ == "__main__":
    main()
