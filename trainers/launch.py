"""Starts the ranks of a training as processes of their own and watches them: where one ends, all end, and why is said.

What ranks say comes by files of one folder: ``rank-N.json`` (its step and process), ``error-N.json`` (what ended it),
``rank-N.log`` (its own output), and what the work itself leaves there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.core.errors import BorderError, FlywheelError, UserError
from flywheel.core.progress import Progress

#: Environment variable with the process that started the ranks; when it is gone, they end.
STARTER = "FLYWHEEL_STARTED_BY"
#: Seconds that the others have to say what they know, once a rank has ended.
_LAST_WORDS_S = 3.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How a training is started: ``count`` processes, those that wait for each other in vain ended after ``timeout_s``.

    ``flags`` are those of ``accelerate launch``, which then starts them, on several machines too; without any they are
    started here.
    """

    count: int
    timeout_s: float
    flags: tuple[str, ...] = ()


def run_ranks(module: str, folder: Path, ranks: Ranks, *, label: str, bar: Progress) -> None:
    """Run ``python -m module folder`` in each rank until all have ended; ``bar`` shows rank 0's steps.

    Raises UserError or FlywheelError as the rank that failed first raised them, BorderError where one was killed or
    ranks waited for each other in vain; by then all have ended.
    """
    _clear(folder)
    processes = _started(module, folder, ranks)
    shown = 0
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(_LOOK_EVERY_S)
            if (step := _step(folder, 0)) > shown:
                bar.advance(step - shown)
                shown = step
            if any(process.poll() for process in processes):
                _wait(processes, _LAST_WORDS_S)
                break
    finally:
        _stop(processes)
    codes = {rank: int(process.returncode) for rank, process in enumerate(processes)}
    if any(codes.values()):
        raise _failure(folder, ranks, codes, label)
    bar.advance(max(0, _step(folder, 0) - shown))


def _clear(folder: Path) -> None:
    """Take away what earlier ranks left; what the work itself needs stays."""
    for pattern in ("rank-*.json", "error-*.json", "rank-*.log", "meet"):
        for file in folder.glob(pattern):
            file.unlink()


def _started(module: str, folder: Path, ranks: Ranks) -> list[subprocess.Popen[bytes]]:
    work = ["-m", module, str(folder)]
    environment = {
        **os.environ,
        STARTER: f"{socket.gethostname()}:{os.getpid()}",
        "FLYWHEEL_RANK_TIMEOUT_S": str(ranks.timeout_s),
    }
    # Here as in the process that starts them, wherever that found the modules.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if ranks.flags:
        command = [sys.executable, "-m", "accelerate.commands.launch", *ranks.flags, *work]
        return [_process(command, folder / "rank-launch.log", environment)]
    here = {"WORLD_SIZE": str(ranks.count), "LOCAL_WORLD_SIZE": str(ranks.count), "FLYWHEEL_MEET": str(folder / "meet")}
    # Asked for by libraries, used by none: ranks of one machine meet in a file.
    here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    return [
        _process(
            [sys.executable, *work],
            folder / f"rank-{rank}.log",
            {**environment, **here, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(ranks.count)
    ]


def _process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(process.poll() is None for process in processes):
        time.sleep(_LOOK_EVERY_S)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End all that still run."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    _wait(processes, _LAST_WORDS_S)
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def _step(folder: Path, rank: int) -> int:
    """The step that a rank says it is at; 0 before its first."""
    return int(read_json(folder / f"rank-{rank}.json").get("step", 0))


def read_json(file: Path) -> dict[str, Any]:
    """A mapping from a file that another process may be writing; empty where there is none."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def _failure(folder: Path, ranks: Ranks, codes: Mapping[int, int], label: str) -> FlywheelError:
    """The error of the rank that the others failed for: one that was killed, or raised an error of its own."""
    said = {int(file.stem.rpartition("-")[2]): read_json(file) for file in sorted(folder.glob("error-*.json"))}
    own = {rank: error for rank, error in said.items() if error.get("own")}
    # Those that this process ended have SIGTERM.
    killed = [r for r, code in codes.items() if code < 0 and code != -signal.SIGTERM and r not in said]
    again = f"Run the same command: it goes on from its last checkpoint (the log: {folder})."
    if killed and not ranks.flags:
        name = signal.Signals(-codes[killed[0]]).name
        why = "; so the system does where memory is short: lower the batch size" if name == "SIGKILL" else ""
        return BorderError(f"{label}: rank {killed[0]} was ended by {name}{why}. The others were stopped. {again}")
    if own:
        rank, error = min(own.items(), key=lambda item: float(item[1].get("at", 0)))
        message = f"{label}: rank {rank}: {str(error['message']).removeprefix(f'{label}: ')}"
        if error["exit"] == UserError.exit_code:
            return UserError(message, code=str(error["code"]))
        return FlywheelError(message, code=str(error["code"]))
    if said:
        steps = {rank: _step(folder, rank) for rank in range(ranks.count)}
        behind = min(steps, key=lambda rank: (rank in said, steps[rank]))
        waited = next(iter(said.values()))["message"]
        return BorderError(
            f"{label}: rank {behind} (at step {steps[behind]}) did not answer the others within "
            f"{ranks.timeout_s:.0f} s (train.timeout_s), and all were stopped: {waited}. {again}",
            code="ranks",
        )
    failed = next(rank for rank, code in codes.items() if code)
    name = "launch" if ranks.flags else str(failed)
    last = _last_line(folder / f"rank-{name}.log")
    return BorderError(f"{label}: rank {name} ended with exit {codes[failed]}: {last}. {again}", code="ranks")


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it said nothing"
    return lines[-1][:300] if lines else "it said nothing"


def forget(folder: Path) -> None:
    """Remove a folder of ranks that are done."""
    shutil.rmtree(folder, ignore_errors=True)
