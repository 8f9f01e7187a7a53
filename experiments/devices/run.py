"""Several processes against one, by the way that a round takes: differences, seconds, and what failures say.

``python experiments/devices/run.py --out FOLDER [--cases ddp,zero2,...]``: a JSON line a case. On the CPU, gloo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "rounds"))

from devices_bed import Gave, pretrained  # noqa: E402

from flywheel.core.config import template  # noqa: E402
from flywheel.core.errors import FlywheelError  # noqa: E402
from flywheel.ingest import ingest  # noqa: E402
from flywheel.playground import write_playground  # noqa: E402
from flywheel.store import Workspace  # noqa: E402

#: Case -> what is set.
EQUAL: dict[str, tuple[str, ...]] = {
    "parts": ("train.devices=1", "train.accumulation=2"),
    "ddp": ("train.devices=2", "train.strategy=ddp"),
    "zero1": ("train.devices=2", "train.strategy=zero1"),
    "zero2": ("train.devices=2", "train.strategy=zero2"),
    "zero3": ("train.devices=2", "train.strategy=zero3"),
    "zero3-offload": ("train.devices=2", "train.strategy=zero3", "train.offload=true"),
    "zero2-parts": ("train.devices=2", "train.strategy=zero2", "train.accumulation=2"),
    "lora-zero3": ("train.devices=2", "train.strategy=zero3", "pretrain.method=lora"),
}


def differences(gave: Gave, alone: Gave) -> dict[str, float]:
    """The largest differences from what one process gave."""
    return {
        "loss": max(abs(gave.losses[step] - value) for step, value in alone.losses.items()),
        "eval_loss": abs(gave.eval_loss - alone.eval_loss),
        "figures": max(abs(gave.figures[name] - value) for name, value in alone.figures.items()),
        "row_weight": max(abs(gave.row_weight[row] - value) for row, value in alone.row_weight.items()),
        "weights": max(float((gave.weights[n] - v).abs().max()) for n, v in alone.weights.items()),
    }


def main() -> None:
    """Run the cases and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", default=",".join([*EQUAL, "no-compiler", "two-machines"]))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (arguments.out / "rows.jsonl").open("a") as out:
        make = workspace(Path(folder))
        alone: dict[bool, Gave] = {}
        for case in arguments.cases.split(","):
            lora = case.startswith("lora")
            if lora not in alone:
                more = ("pretrain.method=lora",) if lora else ()
                alone[lora] = pretrained(make, f"alone-{lora}", "train.devices=1", *more)
            began = time.monotonic()
            row = {"case": case, **result(make, case, alone[lora]), "seconds": round(time.monotonic() - began, 1)}
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(json.dumps(row), flush=True)


def result(make: Callable[..., Workspace], case: str, alone: Gave) -> dict[str, Any]:
    """A case's differences, or the line that it ended with."""
    path = os.environ["PATH"]
    try:
        if case == "no-compiler":
            with tempfile.TemporaryDirectory() as tools:
                # All of the machine's tools but compilers.
                for folder in path.split(os.pathsep):
                    for tool in Path(folder).iterdir() if Path(folder).is_dir() else ():
                        if not any(word in tool.name for word in ("g++", "gcc", "c++", "cc", "clang", "nvcc")):
                            link = Path(tools) / tool.name
                            if not link.exists():
                                link.symlink_to(tool)
                os.environ["PATH"] = tools
                return differences(pretrained(make, case, *EQUAL["zero2"]), alone)
        if case == "two-machines":
            return differences(on_two_machines(make, case), alone)
        return differences(pretrained(make, case, *EQUAL[case]), alone)
    except FlywheelError as error:
        return {"error": str(error)}
    finally:
        os.environ["PATH"] = path


def on_two_machines(make: Callable[..., Workspace], case: str) -> Gave:
    """The figures of a training by two launchers of one process each, the second of which joins the first."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1", "--dynamo_backend", "no"]
    flags += ["--main_process_port", str(port), "--mixed_precision", "no", "--multi_gpu", "--machine_rank"]
    root = make().root
    # Where a round has its trainings; the bed has them beside.
    (root / "models").mkdir(exist_ok=True)
    (root / case).mkdir(exist_ok=True)
    (root / "models" / "round=001").symlink_to(root / case)
    other = subprocess.Popen([sys.executable, "-m", "flywheel.rounds.join", str(root), *flags, "1"])
    try:
        launch = json.dumps([*flags, "0"])
        return pretrained(make, case, "train.devices=2", "train.strategy=ddp", f"train.launch={launch}")
    finally:
        other.terminate()
        other.wait()


def workspace(folder: Path) -> Callable[..., Workspace]:
    """Opens a workspace of six clips with these settings."""
    write_playground(folder / "p", seed=5, num_clips=20, noise_rate=0.5)
    Workspace.create(folder / "w", template())
    there = Workspace.open(folder / "w")
    with there.lock():
        ingest(there, [str(folder / "p" / "corpus")], limit=6)
    there.database.close()
    return lambda *overrides: Workspace.open(folder / "w", ["tracking.enabled=false", *overrides])


if __name__ == "__main__":
    main()
