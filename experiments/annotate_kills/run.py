"""``kill -9`` at random moments while texts are written:
is every committed row kept, is none there twice, does the rest follow?

    python experiments/annotate_kills/run.py --kills 100 --clips 2000                 # fake engine with real delays
    python experiments/annotate_kills/run.py --kills 10 --clips 256 --engine vllm     # real vLLM

Real videos, real decoding, the real store and the real command; one JSON line on stdout.
A clip is a span of one of 20 videos.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from flywheel.core.config import template
from flywheel.core.types import content_id
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.store import Workspace
from flywheel.store.view import clip_of

SPEED = {
    # Four texts in 50 ms: 2,000 take 25 seconds.
    "fake": {"annotate.engine": "fake", "annotate.options.seconds_per_batch": "0.05", "annotate.batch_size": "4"},
    "vllm": {
        "annotate.engine": "vllm",
        "annotate.options.enforce_eager": "true",
        "annotate.options.max_model_len": "512",
        "annotate.options.max_num_seqs": "4",
        "annotate.options.max_num_batched_tokens": "2048",
        "annotate.options.kv_cache_memory_bytes": str(64 << 20),
        "annotate.max_new_tokens": "40",
    },
}


def prepare(root: Path, clips: int) -> Workspace:
    write_playground(root / "corpus", num_clips=20, seed=5, noise_rate=0.3)
    Workspace.create(root / "w", template())
    workspace = Workspace.open(root / "w")
    with workspace.lock():
        ingest(workspace, [str(root / "corpus" / "corpus")])
        videos = [clip_of(row) for row in workspace.clips().iter_rows(named=True)]
        made = []
        for index in range(clips):
            clip = videos[index % len(videos)]
            start = 0.0005 * (1 + index // len(videos))
            made.append(replace(clip, id=content_id(clip.id, start), start_s=clip.start_s + start, split="train"))
        workspace.add_clips(made)
    return workspace


def rows(workspace: Workspace) -> tuple[dict[str, str], int]:
    """Clip -> text; and how many rows are too many, or speak of a generation that is not there."""
    annotations, generations = workspace.annotations(round=1), workspace.generations()
    doubled = sum(
        frame.height - frame[key].n_unique() for frame, key in ((annotations, "clip_id"), (generations, "id"))
    )
    orphans = len(set(annotations["generation_id"]) - set(generations["id"]))
    return dict(annotations.select("clip_id", "text").iter_rows()), doubled + orphans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--engine", choices=SPEED, default="fake")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest",
        type=float,
        default=1.5,
        help="seconds of work, after the first committed row, within which the kill falls",
    )
    options = parser.parse_args()
    rng, began = random.Random(options.seed), time.monotonic()
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder), options.clips)
        total = workspace.clips().filter(workspace.clips()["split"] != "test").height
        settings = {"annotate.commit_rows": "16", **SPEED[options.engine]}
        command = [
            sys.executable,
            "-m",
            "flywheel.cli",
            "annotate",
            "--limit",
            str(total),
            "--config",
            str(workspace.root),
        ]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        kills = before_first = starts = 0
        have, lost, doubled = rows(workspace)[0], 0, 0
        while len(have) < total:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )
            starts += 1
            if kills < options.kills:
                # Start-up is long and writes nothing: most kills are to fall into the work, some before it.
                waits = rng.random() < 0.9
                while (
                    waits
                    and process.poll() is None
                    and workspace.records.read("annotations", round=1).height == len(have)
                ):
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, options.longest if waits else 3.0))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    kills += 1
                    before_first += not waits
            _, error = process.communicate()
            if process.returncode not in (0, -signal.SIGKILL):
                raise SystemExit(error.decode()[-2000:])
            now, too_many = rows(workspace)
            lost += sum(now.get(clip) != text for clip, text in have.items())
            doubled += too_many
            have = now
            if process.returncode == 0 and len(have) < total:
                lost += total - len(have)
                break
            if kills < options.kills and len(have) == total:
                # All is written before the kills are used up: the same again in a workspace of its own.
                print(f"all {total} rows written after {kills} kills; a fresh workspace for the rest", file=sys.stderr)
                workspace.database.close()
                root = Path(folder) / f"again-{kills}"
                workspace = prepare(root, options.clips)
                command[command.index("--config") + 1] = str(workspace.root)
                have = rows(workspace)[0]
    result = {
        "engine": options.engine,
        "clips": total,
        "kills": kills,
        "kills during start-up": before_first,
        "starts": starts,
        "rows lost": lost,
        "rows doubled": doubled,
        "seed": options.seed,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(result))
    sys.exit(bool(lost or doubled))


if __name__ == "__main__":
    main()
