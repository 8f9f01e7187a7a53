"""Measures on one GPU what no CPU can show: each part a process of its own under a time limit of its own.

    python experiments/gpu/run.py [--parts loss,optimizers,trainer,demo,plan] [--seconds 340] [--out FOLDER]

Results are JSON lines, ``FOLDER/PART.jsonl``, with what a part printed in ``FOLDER/PART.log``. They are shown at the
end, and the last line says what was left out and why. Time that a part does not use goes to those after it.

``--wheels FOLDER`` installs the wheels that lie there into a folder of its own first, for machines that reach no
registry. ``--tiny`` runs each part with small sizes on the CPU: it shows that the scripts run, and measures nothing.

Exit 0 where something was measured, 1 where nothing was, 2 for a wrong argument, 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: The parts in order, and each one's share of the time.
SHARES = {"loss": 75, "optimizers": 60, "trainer": 55, "demo": 125, "plan": 25}
#: What a part ends with where it can't run at all; its last line says why.
CANT_RUN = 3
#: A part that is told to stop gets this long to write what it has.
GRACE_SECONDS = 3.0
#: Lines are shown up to here; the files have them whole.
SHOWN = 600


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part went; ``left_out`` is the reason where it did not come to its end."""

    part: str
    exit: int | None
    seconds: float
    lines: int
    left_out: str | None


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(SHARES))
    parser.add_argument("--seconds", type=float, default=340.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "gpu-results"), metavar="FOLDER")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    parts = [name for name in options.parts.split(",") if name]
    unknown = [name for name in parts if name not in SHARES]
    if unknown or not parts:
        parser.error(f"unknown part {', '.join(unknown) or '(none)'}: there are {', '.join(SHARES)}")
    if options.wheels is not None and not list(options.wheels.glob("*.whl")):
        parser.error(f"--wheels: no wheel in {options.wheels}")
    if not options.tiny and not has_gpu():
        print("no NVIDIA GPU here: nothing was measured. --tiny shows on the CPU that the scripts run.")
        return CANT_RUN
    end = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    extra = ["--tiny"] if options.tiny else []
    with tempfile.TemporaryDirectory(prefix="gpu-wheels-") as installed:
        environment = surroundings(installed, options.wheels)
        outcomes = run_parts(parts, options.out, end, HERE, environment, extra)
    report(outcomes, options.out)
    return 0 if any(outcome.exit == 0 for outcome in outcomes) else 1


def has_gpu() -> bool:
    """Whether NVIDIA's driver finds a GPU; without loading torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def surroundings(installed: str, wheels: Path | None) -> dict[str, str]:
    """The environment of the parts, with the wheels installed into a folder of their own."""
    paths = [str(HERE.parents[1])]
    if wheels is not None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed]
        done = subprocess.run([*command, *map(str, sorted(wheels.glob("*.whl")))], capture_output=True, text=True)
        if done.returncode:
            print(f"the wheels in {wheels} were not all installed: {done.stderr.strip()[-SHOWN:]}")
        paths.append(installed)
    paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run_parts(
    parts: list[str], out: Path, end: float, folder: Path, environment: Mapping[str, str], extra: list[str]
) -> list[Outcome]:
    """Run the parts of ``folder`` one after the other until ``end`` on the monotonic clock."""
    outcomes = []
    for number, part in enumerate(parts):
        share = SHARES.get(part, 1) / sum(SHARES.get(other, 1) for other in parts[number:])
        limit = (end - time.monotonic()) * share
        outcomes.append(_run_part(part, out, limit, folder, environment, extra))
        print(f"{part}: {outcomes[-1].seconds:.0f} s, {outcomes[-1].left_out or 'done'}", flush=True)
    return outcomes


def _run_part(
    part: str, out: Path, limit: float, folder: Path, environment: Mapping[str, str], extra: list[str]
) -> Outcome:
    script, results, log = folder / f"{part}.py", out / f"{part}.jsonl", out / f"{part}.log"
    results.unlink(missing_ok=True)

    def outcome(code: int | None, left_out: str | None) -> Outcome:
        lines = len(_lines(results))
        return Outcome(part=part, exit=code, seconds=time.monotonic() - began, lines=lines, left_out=left_out)

    began = time.monotonic()
    if not script.exists():
        return outcome(None, "there is no such script yet")
    if limit <= 0:
        return outcome(None, "no time was left")
    command = [sys.executable, str(script), "--out", str(results), "--seconds", f"{limit:.1f}", *extra]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=dict(environment), start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    said = log.read_text(errors="replace").strip().splitlines()
    if code is None:
        return outcome(None, f"over its limit of {limit:.0f} s; {_last(said, 1)}")
    if code == CANT_RUN:
        return outcome(code, _last(said, 1))
    return outcome(code, None if code == 0 else f"exit {code}: {_last(said, 4)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the part and all that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _last(said: list[str], count: int) -> str:
    return " | ".join(line.strip() for line in said[-count:])[-SHOWN:] or "it said nothing"


def _lines(results: Path) -> list[str]:
    return results.read_text().splitlines() if results.exists() else []


def report(outcomes: list[Outcome], out: Path) -> None:
    """Show all results, then what was left out; ``run.jsonl`` has the same about the parts."""
    shown: list[dict[str, Any]] = []
    for outcome in outcomes:
        for line in _lines(out / f"{outcome.part}.jsonl"):
            print(line[:SHOWN])
        shown.append({**vars(outcome), "seconds": round(outcome.seconds, 1)})
    left_out = {outcome.part: outcome.left_out for outcome in outcomes if outcome.left_out}
    shown.append({"left_out": left_out})
    (out / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in shown))
    print(json.dumps(shown[-1]))


if __name__ == "__main__":
    sys.exit(main())
