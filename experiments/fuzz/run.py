"""Mutated real inputs thrown at ingest, subtitles, tables, replies and corrections, for as long as is said.

The work is done in another process, which notes each seed before it tries it: where it dies, the seed is known.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Seconds that one example may take; shares of the time that targets get.
_MOST_S = 60
_SHARES = {"ingest": 4, "tables": 2, "corrections": 2, "replies": 1, "subtitles": 1}
#: Seconds of a target's turn.
_TURN_S = 30.0


class _TooSlow(Exception):
    pass


def _too_slow(*_: object) -> None:
    raise _TooSlow(f"takes longer than {_MOST_S} s")


def work(target: str, first: int, seconds: float, inputs: list[Path], out: Path) -> None:
    """Try a target's seeds from the first one on; a line of JSON for each on stdout, before it and after it."""
    from experiments.fuzz.targets import TARGETS, inputs_of

    given, seed = inputs_of(inputs), first
    signal.signal(signal.SIGALRM, _too_slow)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        print(json.dumps({"try": seed}), flush=True)
        found: dict[str, Any] = {"done": seed}
        signal.alarm(_MOST_S)
        try:
            # Their lines say what is rejected; here only what is raised counts.
            with contextlib.redirect_stderr(io.StringIO()):
                reasons = TARGETS[target](given, out / "work" / target, random.Random(f"{target} {seed}"))
                found["unforeseen"] = sorted({reason for reason in reasons if reason})
        except BaseException as error:
            trace = traceback.extract_tb(error.__traceback__)
            at = next((f for f in reversed(trace) if "/fuzz/" not in f.filename), trace[-1])
            found["raised"] = f"{type(error).__name__} {Path(at.filename).name}:{at.lineno}: {str(error)[:200]!r}"
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            signal.alarm(0)
        print(json.dumps(found), flush=True)
        seed += 1


def turn(target: str, first: int, inputs: list[Path], out: Path) -> dict[str, Any]:
    """One turn of a target in a process of its own: what was tried and found."""
    command = [sys.executable, "-m", "experiments.fuzz.run", "--worker", target, "--first", str(first)]
    command += ["--seconds", str(_TURN_S), "--out", str(out), *(f"--inputs={folder}" for folder in inputs)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text, errors = process.communicate()
    findings: list[dict[str, Any]] = []
    unforeseen, last, done = Counter[str](), first - 1, first - 1
    for line in text.splitlines():
        if not line.startswith(('{"try"', '{"done"')):
            continue
        said = json.loads(line)
        if "try" in said:
            last = said["try"]
            continue
        done = said["done"]
        unforeseen.update(said.get("unforeseen", ()))
        if "raised" in said:
            findings.append({"seed": done, "raised": said["raised"]})
    if last > done:
        # It died at this seed.
        findings.append({"seed": last, "raised": f"the process ended with {process.returncode}: {errors[-300:]!r}"})
    elif process.returncode:
        raise SystemExit(errors)
    return {
        "target": target,
        "first": first,
        "next": last + 1,
        "seconds": round(time.monotonic() - began, 1),
        "findings": findings,
        "unforeseen": dict(unforeseen),
    }


def main() -> None:
    """Fuzz for some minutes, going on where the last run ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("/tmp/flywheel-fuzz"))
    parser.add_argument("--inputs", type=Path, action="append", default=[], help="A folder of real inputs; repeatable.")
    parser.add_argument("--only", choices=_SHARES, help="One target, not all by turns.")
    parser.add_argument("--seed", type=int, help="Try this one seed of the target, and raise what it raises.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=_TURN_S, help=argparse.SUPPRESS)
    given = parser.parse_args()
    inputs = [HERE.parents[1] / "tests" / "ingest" / "before", *given.inputs]
    if given.seed is not None:
        from experiments.fuzz.targets import TARGETS, inputs_of

        list(TARGETS[given.only](inputs_of(inputs), given.out / "work", random.Random(f"{given.only} {given.seed}")))
        return
    if given.worker:
        work(given.worker, given.first, given.seconds, given.inputs, given.out)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    state, rows = given.out / "state.json", given.out / "rows.jsonl"
    seeds: dict[str, int] = json.loads(state.read_text()) if state.exists() else {}
    turns = [given.only] if given.only else [name for name, share in _SHARES.items() for _ in range(share)]
    ends, number = time.monotonic() + 60 * given.minutes, sum(seeds.values())
    while time.monotonic() < ends:
        target = turns[number % len(turns)]
        row = turn(target, seeds.get(target, 0), inputs, given.out)
        seeds[target] = row["next"]
        number += 1
        with open(rows, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        state.write_text(json.dumps(seeds))
        print(f"{target}: seeds {row['first']} to {row['next'] - 1}, {len(row['findings'])} found", flush=True)
        for finding in row["findings"]:
            print(f"  {finding['seed']}: {finding['raised']}", flush=True)


if __name__ == "__main__":
    main()
