"""The whole demo with its workspace on an object store, beside the same in a folder: the same texts and figures?

    python -m experiments.object_store.demo --seed 92001 --clips 96 --faults 0.03 --out FOLDER

An S3 server (moto) runs on this machine, and PostgreSQL. The demo runs in FOLDER/plain, then at the store, where a
share of the requests meets 503, a slow or a cut answer. Both are compared with experiments/bench/same_results.py.
Then another host, whose folder of copies lies elsewhere, opens the workspace: what it exports, the figures that it
reads and its report are compared with those of the folder. One JSON line.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.object_store.servers import object_store, postgresql

URL = "s3://corpus/wheels/demo"
_RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from flywheel.demo import QUICK, run_demo
out, seed, clips, steps, database = sys.argv[1:]
settings = {"pretrain": {"num_steps": int(steps), "save_every": max(1, int(steps) // 3), "learning_rate": 0.002},
    "finetune": {"num_steps": max(2, int(steps) // 3)}, "corpus": {"cache_gib": 1}}
size = replace(QUICK, num_clips=int(clips), settings={**QUICK.settings, **settings})
settings = {"store": {"database": database}} if database else {}
run_demo(Path(out), seed=int(seed), noise=0.5, size=size, settings=settings)
"""

_READ = f"""
from flywheel.store import Workspace
from flywheel.store.columns import SCHEMAS
workspace = Workspace.open("{URL}")
for kind in SCHEMAS:
    workspace.records.read(kind)
"""


def command(*words: str, log: Path, cache: Path) -> float:
    """Runs Python with these words as a host with this folder of copies; returns its seconds."""
    began = time.monotonic()
    with log.open("a") as file:
        environment = {**os.environ, "FLYWHEEL_CACHE": str(cache)}
        done = subprocess.run([sys.executable, *words], stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{words[:3]}: exit {done.returncode}\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


def cli(*words: str, log: Path, cache: Path) -> float:
    return command("-m", "flywheel.cli", *words, log=log, cache=cache)


def differing(one: Path, other: Path) -> list[str]:
    """Names of files that two folders do not have alike."""
    names = {str(p.relative_to(root)) for root in (one, other) for p in root.rglob("*") if p.is_file()}
    return sorted(
        n
        for n in names
        if not (one / n).exists() or not (other / n).exists() or not filecmp.cmp(one / n, other / n, shallow=False)
    )


def compared(plain: Path, stored: Path, log: Path) -> bool:
    """Returns whether same_results.py finds two workspaces equal; what it prints goes to the log."""
    script = Path(__file__).parents[1] / "bench" / "same_results.py"
    done = subprocess.run(
        [sys.executable, str(script), "compare", str(plain), str(stored)], capture_output=True, text=True, check=False
    )
    with log.open("a") as file:
        file.write(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--faults", type=float, default=0.03, help="share of requests that meet a fault")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True)
    log, hosts = out / "log.txt", [out / "a", out / "other" / "place" / "b"]
    size = [str(options.seed), str(options.clips), str(options.steps)]
    row: dict[str, Any] = {"seed": options.seed, "clips": options.clips, "faults": options.faults}
    row["plain_s"] = command("-c", _RUN, str(out / "plain"), *size, "", log=log, cache=hosts[0])
    with postgresql() as database, object_store("corpus", share=options.faults, seed=options.seed) as store:
        row["store_s"] = command("-c", _RUN, URL, *size, database, log=log, cache=hosts[0])
        row["requests"] = dict(store.met)
        store.met = Counter()
        [folder] = (hosts[0] / "workspaces").iterdir()
        row["equal"] = compared(out / "plain", folder, log)
        # The other host has nothing yet.
        row["opening_s"] = cli("status", "--config", URL, log=log, cache=hosts[1])
        row["opening_requests"] = dict(store.met)
        [other] = (hosts[1] / "workspaces").iterdir()
        for form in ("messages", "llava"):
            for place, config in (("plain", str(out / "plain")), ("stored", URL)):
                words = ("--format", form, "--out", str(out / f"{place}-{form}"), "--config", config)
                cli("export", *words, log=log, cache=hosts[1])
            unlike = differing(out / f"plain-{form}", out / f"stored-{form}")
            row[f"unlike in {form}"] = unlike
        # Only what was read is here so far.
        command("-c", _READ, log=log, cache=hosts[1])
        row["equal on the other host"] = compared(out / "plain", other, log)
        missing = [n for n in differing(folder, other) if n.split("/")[0] in ("models", "reports", "curation")]
        row["models and reports unlike"] = missing
    row["tries again"] = log.read_text().count(" of 6\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
