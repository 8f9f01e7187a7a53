"""The demo on the GPU through the adapter's proofs: exit code, slot F1 beside the CPU's, what the proofs found.

    python experiments/gpu/demo.py --out demo.jsonl --seconds 200 [--tiny]

Three rounds took about 200 s on an H100. With less time, the rounds that were done are told of, and which were not.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _part import Part

SEED, NUM_ROUNDS = 1208, 3
#: Slot F1 of `flywheel demo --seed 1208` on two CPU cores in float32, by round.
CPU = {0: 0.6153846153846153, 1: 0.8615419587059971, 2: 0.904741966230937, 3: 0.9126157407407408}
#: The most that a round may be from the CPU's.
BAR = 0.03
#: What reading the records takes at the end.
_LAST_SECONDS = 12.0


def main() -> int:
    """Run the demo and write a line for it and for each round; exit 1 where the demo fails or a round is off."""
    part = Part(__doc__)
    part.need_gpu()
    with tempfile.TemporaryDirectory(prefix="gpu-demo-") as folder:
        out = Path(folder) / "demo"
        command = [sys.executable, "-m", "flywheel.cli", "demo", "--out", str(out), "--seed", str(SEED)]
        code, seconds, said = _run([*command, "--quick"] if part.tiny else command, part.seconds_left() - _LAST_SECONDS)
        done = _rounds(out)
        part.line(
            "demo",
            seed=SEED,
            exit=code,
            seconds=round(seconds, 1),
            rounds=max((r["round"] for r in done), default=0),
            left_out=None if code is not None else f"rounds after these: stopped at {part.seconds_left():.0f} s left",
            said=None if code == 0 else said[-400:],
        )
        off = [_tell(part, found) for found in done]
    return 1 if any(off) or code not in (0, None) else 0


def _run(command: list[str], limit: float) -> tuple[int | None, float, str]:
    """Exit code (None where it was stopped at the limit), seconds, and what it said last."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        try:
            code: int | None = process.wait(max(1.0, limit))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = None
        finally:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.seek(0)
        text = log.read()
    print(text)
    return code, time.monotonic() - began, text.strip()


def _rounds(out: Path) -> list[dict[str, Any]]:
    """What is on record of each round that was evaluated."""
    from flywheel.demo import Oracle, test_scores
    from flywheel.store import Workspace

    if not (out / "oracle.parquet").exists():
        return []
    workspace, oracle, found = Workspace.open(out), Oracle(out / "oracle.parquet"), []
    for number in range(NUM_ROUNDS + 1):
        state, evaluated = workspace.stage(number, "evaluate")
        if state != "done":
            break
        scores = test_scores(workspace, oracle, number)
        found.append(
            {
                "round": number,
                "slot_f1": sum(scores) / len(scores),
                "seconds": {name: round(s, 1) for name, s in workspace.stages_s(number).items()},
                # Of the champion whose texts the round learned from, and of the model that it made.
                "proof_of_writer": workspace.stage(number, "annotate")[1].get("proof"),
                "proof_of_own": evaluated.get("proof"),
            }
        )
    return found


def _tell(part: Part, found: dict[str, Any]) -> bool:
    """Write a round's line; whether it is further from the CPU's than it may be."""
    if part.tiny:
        part.line("round", **found)
        return False
    apart = found["slot_f1"] - CPU[found["round"]]
    part.line("round", **found, cpu_slot_f1=CPU[found["round"]], apart=apart, within_bar=abs(apart) <= BAR)
    return bool(abs(apart) > BAR)


if __name__ == "__main__":
    sys.exit(main())
