"""A round as a process of its own: it can run out of memory or be killed without taking the schedule along."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from flywheel.core.errors import GateRefused
from flywheel.rounds.schedule.state import Wait

Event = Literal["done", "refused", "waiting", "busy", "failed"]

#: Seconds that a run may take to end when it is asked to.
_GRACE_S = 120.0
#: Logs of runs before that are kept, and the end of a log that its last line is looked for in, in bytes.
_LOGS_KEPT, _LOG_END = 50, 65_536


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; "busy": another process holds the workspace. ``wait`` is set where the event is "waiting"."""

    event: Event
    message: str
    wait: Wait | None = None


def outcome_of(exit_code: int, result: Mapping[str, Any], last_line: str = "") -> Outcome:
    """The outcome of ``flywheel round --json`` by its exit code and result (empty if it printed none).

    ``last_line`` of its log stands in for a message where the result has none.
    """
    if exit_code < 0:
        return Outcome(event="failed", message=f"killed by signal {-exit_code}")
    error = result.get("error", {})
    message = str(error.get("message") or result.get("message") or last_line or f"ended with {exit_code}")
    if error:
        return Outcome(event="busy" if error["code"] == "busy" else "failed", message=message)
    if exit_code == GateRefused.exit_code:
        return Outcome(event="refused", message=message)
    if exit_code:
        return Outcome(event="failed", message=message)
    if wait := result.get("waiting"):
        return Outcome(event="waiting", message=message, wait=Wait(**wait))
    return Outcome(event="done", message=message)


class RoundProcess:
    """``flywheel round`` as a process; what it logs is ``schedule.log`` in the workspace.

    Logs of runs before lie beside it, under the time of their last line. Each run has a file of its own: a round of a
    schedule that was killed may still be writing.
    """

    def __init__(self, root: Path, arguments: list[str]) -> None:
        self._results: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        command = [sys.executable, "-m", "flywheel.cli", *arguments]
        self._log: IO[bytes] = open(_new_log(root), "w+b")  # noqa: SIM115  (it may be moved while it is read)
        # A group of its own: Ctrl-C in the terminal asks the schedule alone, which asks the round.
        self._process = subprocess.Popen(command, stdout=self._results, stderr=self._log, start_new_session=True)
        self._asked_at: float | None = None

    def poll(self) -> Outcome | None:
        """How the run ended; None while it runs."""
        code = self._process.poll()
        if code is not None:
            return outcome_of(code, self._result(), self._last_line())
        if self._asked_at is not None and time.monotonic() - self._asked_at > _GRACE_S:
            self._process.kill()
        return None

    def interrupt(self) -> None:
        """Ask the run to end; it is killed if it takes more than two minutes."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def _result(self) -> dict[str, Any]:
        self._results.seek(0)
        try:
            result = json.loads(self._results.read())
        except ValueError:
            # Killed before it printed, or while it did.
            return {}
        return result if isinstance(result, dict) else {}

    def _last_line(self) -> str:
        # Its descriptor has a place of its own: to move that one would move where the process writes.
        content = os.pread(self._log.fileno(), _LOG_END, max(0, os.fstat(self._log.fileno()).st_size - _LOG_END))
        lines = content.decode("utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


def _new_log(root: Path) -> Path:
    """Where the next run logs: the last one's log is moved aside, and the oldest go."""
    log = root / "schedule.log"
    with contextlib.suppress(OSError):
        if log.stat().st_size:
            ended = datetime.fromtimestamp(log.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S")
            log.rename(root / f"schedule-{ended}.log")
        for old in sorted(root.glob("schedule-*.log"))[:-_LOGS_KEPT]:
            old.unlink()
    return log
