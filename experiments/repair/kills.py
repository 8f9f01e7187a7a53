"""Kills ``flywheel repair`` twenty times: ``python -m experiments.repair.kills FOLDER --seed S --clips 40``.

A corpus of the playground's audio-visual world, 60 % of whose sounds are damaged, is repaired by processes that are
killed (SIGKILL) within a second of their first commit, then by one that ends. One JSON line: clips without a record or
with two, files that are not what their names say, and versions without their file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.media.probe import file_hash
from flywheel.playground import write_av_playground
from flywheel.store import Workspace

KILLS = 20
#: Clip by clip, so that kills come in the middle of commits and files.
_SCRIPT = "import flywheel.curation.repair.repairing as r; r._TOGETHER = 1; from flywheel.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=40)
    arguments = parser.parse_args()
    folder = arguments.folder
    write_av_playground(
        folder, seed=arguments.seed, num_clips=arguments.clips, noise_rate=0.0, faults={}, damage_rate=0.6
    )
    Workspace.create(folder / "w", template())
    workspace = Workspace.open(folder / "w", ["tracking.enabled=false"])
    with workspace.lock():
        ingest(workspace, [str(folder / "corpus")])
    command = [sys.executable, "-c", _SCRIPT, "repair", "--config", str(workspace.root), "--json"]
    command += ["--set", "repair.calibration_clips=8"]
    rng, ended, halves, at_work = random.Random(arguments.seed), 0, 0, 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, until = workspace.count("sound_versions"), time.monotonic() + 120
        while workspace.count("sound_versions") == before and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        # From its first commit on, at any moment.
        time.sleep(rng.uniform(0.0, 1.0))
        ended += process.poll() is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        at_work += workspace.count("sound_versions") > before
        halves += sum(file_hash(file) != file.stem for file in workspace.sound_files.folder.glob("*/*.wav"))
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows, clips = workspace.sound_versions(), workspace.clips()
    standing = workspace.standing_sounds()["content_hash"]
    line = {
        "seed": arguments.seed,
        "clips": clips.height,
        "kills": KILLS - ended,
        "kills_after_a_commit": at_work,
        "lost": len(set(clips["id"]) - set(rows["clip_id"])),
        "doubled": rows.height - rows["clip_id"].n_unique(),
        "half_files": halves,
        "without_file": sum(not workspace.sound_files.place(content_hash).exists() for content_hash in standing),
        **{name: done[name] for name in ("left_alone", "repaired", "refused")},
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
