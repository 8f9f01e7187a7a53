"""Commands in processes of their own, which can be killed, told another time, and take little to start."""

from __future__ import annotations

import datetime as real
import multiprocessing
import os
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Loaded once, in the process that the commands are forked from. It runs nothing, so no thread is forked.
_PRELOAD = ["flywheel.cli", "flywheel.rounds", "flywheel.ingest", "flywheel.status", "human_refine", "annotators"]
#: What a round loads besides, which takes longer than all that it does here.
_PRELOAD += ["torch", "noise_control", "trainers", "pandas", "matplotlib.figure", "jinja2", "scipy.stats"]
_OURS = ("flywheel", "human_refine", "annotators", "trainers")
_KILLED = -9


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended: its exit code (-9: killed, 124: it hung), what it printed, seconds, memory at its peak."""

    code: int
    text: str
    seconds: float
    peak_mib: float

    @property
    def clean(self) -> bool:
        """Whether it ended as commands may: an exit code of ours, and no traceback."""
        return self.code in (0, 1, 2, 3) and "Traceback" not in self.text

    def last(self) -> str:
        """The last line printed."""
        return next(reversed(self.text.strip().splitlines()), "")[:160]


def run(*arguments: object, kill_after_s: float | None = None, shift_s: float = 0.0, limit_s: float = 300.0) -> Outcome:
    """Run ``flywheel`` with these arguments; kill it after some seconds, or let its clock go wrong by some."""
    return Running(*arguments, shift_s=shift_s).end(kill_after_s=kill_after_s, limit_s=limit_s)


class Running:
    """A command that runs."""

    def __init__(self, *arguments: object, shift_s: float = 0.0) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        self._log = Path(os.environ["FAULTS_FOLDER"]) / f"log-{time.monotonic_ns()}.txt"
        words = [str(argument) for argument in arguments]
        self._peak = self._log.with_suffix(".peak")
        self.process: Any = context.Process(target=_work, args=(words, str(self._log), shift_s))
        self._began = time.monotonic()
        self.process.start()

    def said(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def end(self, *, kill_after_s: float | None = None, limit_s: float = 300.0) -> Outcome:
        """Wait until it ends, or kill it."""
        self.process.join(limit_s if kill_after_s is None else kill_after_s)
        hung = self.process.is_alive() and kill_after_s is None
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        seconds = time.monotonic() - self._began
        text = self.said()
        peak_mib = float(self._peak.read_text()) if self._peak.exists() else 0.0
        for file in (self._log, self._peak):
            file.unlink(missing_ok=True)
        code = 124 if hung else int(self.process.exitcode or 0)
        return Outcome(code=code, text=text, seconds=seconds, peak_mib=peak_mib)


def _work(arguments: list[str], log: str, shift_s: float) -> None:
    with open(log, "wb", buffering=0) as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    from flywheel.cli import main

    if shift_s:
        _shift_clock(shift_s)
    sys.argv = ["flywheel", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    Path(log).with_suffix(".peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    os._exit(code)


def _shift_clock(seconds: float) -> None:
    """Let all that asks for the time in this process be told another."""
    now = time.time
    time.time = lambda: now() + seconds

    class Shifted(real.datetime):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
            return real.datetime.now(tz) + real.timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in _OURS and getattr(module, "datetime", None) is real.datetime:
            module.datetime = Shifted  # type: ignore[attr-defined]


__all__ = ["Outcome", "Running", "run"]
