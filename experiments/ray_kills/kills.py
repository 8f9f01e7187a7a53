"""Workers, engines, nodes and the command itself are killed at random while a round's texts are written through Ray.

    python -m experiments.ray_kills.kills --kills 30 --clips 20000

Three nodes of ``ray.cluster_utils`` on this machine, the fake engine with real delays, real decoding, the real store
and the real command. After each kill the run goes on as it would for a person: a command that ended is started again,
a node that went is followed by a new one. One JSON line: kills by kind, texts, clips without one, clips with two, clips
set aside, and how often the command was started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from flywheel.core.config import template
from flywheel.core.types import content_id
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.store import Workspace
from flywheel.store.view import clip_of

KINDS = ("worker", "actor", "node", "driver")
_ACTOR = "ray::_Worker"


def prepare(root: Path, clips: int) -> Workspace:
    write_playground(root / "corpus", num_clips=20, seed=5, noise_rate=0.3)
    Workspace.create(root / "w", template())
    workspace = Workspace.open(root / "w", ["tracking.enabled=false", "corpus.test_share=0"])
    with workspace.lock():
        ingest(workspace, [str(root / "corpus" / "corpus")])
        videos = [clip_of(row) for row in workspace.clips().iter_rows(named=True)]
        workspace.add_clips(
            replace(videos[n % len(videos)], id=content_id("copy", n), split="train") for n in range(clips)
        )
    return workspace


class Bed:
    """The cluster and the command, and what can be killed of them."""

    def __init__(self, root: Path, seconds_per_batch: float) -> None:
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 << 20}
        self._memory = memory
        self.cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **memory}
        )
        self._nodes = [node for _ in range(2) if (node := self._added()) is not None]
        settings = {
            "annotate.executor": "ray",
            "ray.address": self.cluster.address,
            "ray.actors": "2",
            "ray.cpus_per_actor": "0.5",
            "ray.cpus_per_decoder": "0.25",
            "models.main.engine": "fake",
            "models.main.options": f"{{seconds_per_batch: {seconds_per_batch}}}",
            "annotate.batch_size": "8",
            "annotate.commit_rows": "64",
            "tracking.enabled": "false",
        }
        self._command = [sys.executable, "-m", "flywheel.cli", "annotate", "--config", str(root)]
        self._command += [f"--set={name}={value}" for name, value in settings.items()]
        self._log = open(root / "command.log", "w")  # noqa: SIM115  (open as long as commands are started)
        self.starts = 0
        self.start()

    def _added(self) -> Any:
        """A new node; None where none came up, as on a machine that is busy."""
        for _ in range(3):
            with contextlib.suppress(Exception):
                return self.cluster.add_node(num_cpus=1, **self._memory)
        return None

    def start(self) -> None:
        self.starts += 1
        self.driver = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, start_new_session=True)

    def kill(self, kind: str, rng: random.Random) -> bool:
        """Kill one of a kind; returns whether there was one."""
        if kind == "driver":
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            return True
        if kind == "node":
            if not self._nodes:
                return False
            self.cluster.remove_node(self._nodes.pop(rng.randrange(len(self._nodes))), allow_graceful=False)
            if (node := self._added()) is not None:
                self._nodes.append(node)
            return True
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                name = process.name() if process.name().startswith("ray::") else " ".join(process.cmdline())
            except psutil.Error:
                continue
            if name.startswith("ray::") and name.startswith(_ACTOR) == (kind == "actor"):
                found.append(process)
        if not found:
            return False
        rng.choice(found).kill()
        return True

    def close(self) -> None:
        if self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        self.cluster.shutdown()
        self._log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds-per-batch", type=float, default=0.05)
    parser.add_argument("--most-minutes", type=float, default=60)
    options = parser.parse_args()
    rng, kills, began = random.Random(options.seed), Counter[str](), time.monotonic()
    os.environ |= {"HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder), options.clips)
        total = workspace.count("clips")
        bed = Bed(workspace.root, options.seconds_per_batch)
        try:
            while time.monotonic() - began < options.most_minutes * 60:
                before = workspace.records.count("annotations", round=1)
                if bed.driver.poll() is not None:
                    if before >= total:
                        break
                    bed.start()
                if kills.total() < options.kills:
                    # Start-up writes nothing: kills are to fall into the work.
                    wait_until = time.monotonic() + 90
                    while workspace.records.count("annotations", round=1) == before and time.monotonic() < wait_until:
                        if bed.driver.poll() is not None:
                            break
                        time.sleep(0.2)
                    time.sleep(rng.uniform(0, 4))
                    kind = rng.choice(KINDS)
                    kills[kind] += bed.kill(kind, rng)
                else:
                    time.sleep(1)
        finally:
            bed.close()
        texts = workspace.annotations(round=1)
        result = {
            "kills": dict(kills),
            "clips": total,
            "texts": texts.height,
            "without a text": total - texts["clip_id"].n_unique(),
            "with two": texts.height - texts["clip_id"].n_unique(),
            "set aside": workspace.rejected(round=1).height,
            "starts of the command": bed.starts,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "seed": options.seed,
        }
        print(json.dumps(result))
        log = (workspace.root / "command.log").read_text().splitlines()
        print("\n".join(log[-5:]), file=sys.stderr)


if __name__ == "__main__":
    main()
