"""The page's server and the scheduler killed, a tracking server that is away: no word lost, no run doubled."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import Running, run
from experiments.faults.fault import Fault
from experiments.faults.groups.together import page
from flywheel.rounds.schedule.state import State, keep_state, state_of
from flywheel.store import Workspace

_KILLS = 8


def faults(bed: Bed) -> Iterator[Fault]:
    """Kills of servers, and servers that do not answer."""
    rng = random.Random(5)
    for number in range(_KILLS):
        after_s = (number + rng.random()) * 0.25
        yield Fault("servers killed", f"review, {after_s:.2f} s into saving", partial(_review, bed, after_s))
    yield Fault("servers killed", "scheduler, before a time", partial(_idle, bed))
    for after_s in (0.5, 3.0):
        yield Fault("servers killed", f"scheduler, {after_s} s into a round", partial(_scheduler, bed, after_s))
    yield Fault("servers killed", "scheduler, its round alive", partial(_orphan, bed))
    yield Fault("servers killed", "scheduler, its round too", partial(_both, bed))
    yield Fault("servers killed", "scheduler started three days ahead", partial(_ahead, bed))
    yield Fault("tracking server", "refuses", partial(_tracking, bed, listens=False))
    yield Fault("tracking server", "never answers", partial(_tracking, bed, listens=True))


def _review(bed: Bed, after_s: float) -> str:
    root = bed.copy("annotated")
    acknowledged: list[str] = []
    with page(root) as (running, person):
        killer = threading.Timer(after_s, running.process.kill)
        killer.start()
        with suppress(httpx.HTTPError, ValueError):
            while (item := person.next()) is not None:
                answer = person.say(item)
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["id"])
        killer.join()
    kept = _corrections(root)
    if lost := set(acknowledged) - set(kept):
        return f"{len(lost)} of {len(acknowledged)} acknowledged words are lost"
    if len(kept) != len(set(kept)) or len(kept) > len(acknowledged) + 1:
        return f"{len(kept)} kept, {len(acknowledged)} acknowledged"
    with page(root) as (_, person):
        item = person.next()
        if item is not None and person.say(item).status_code != 200:
            return "the next server does not take a word"
    return "; ".join(problems(root))


def _corrections(root: Path) -> list[str]:
    workspace = Workspace.open(root)
    try:
        return list(workspace.corrections()["id"])
    finally:
        workspace.database.close()


def _due(root: Path) -> None:
    """A schedule whose last time was an hour ago."""
    workspace = Workspace.open(root)
    try:
        before = datetime.now(UTC) - timedelta(hours=1)
        keep_state(workspace, State(cron="0 * * * *", handled=before.isoformat()))
    finally:
        workspace.database.close()


def _schedule(root: Path, **how: float) -> Running:
    return Running("schedule", "start", "--cron", "0 * * * *", "--config", root, **how)


def _state(root: Path) -> tuple[State | None, str]:
    """The schedule's state, and that of round 1's gate."""
    workspace = Workspace.open(root)
    try:
        return state_of(workspace), workspace.stage(1, "gate")[0]
    finally:
        workspace.database.close()


def _ended(root: Path, running: Running, limit_s: float = 180.0) -> str:
    """Wait until the round is at its end and the schedule says so; then end the schedule."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and running.process.is_alive():
        state, gate = _state(root)
        if gate == "done" and state is not None and state.phase == "idle":
            break
        time.sleep(1.0)
    else:
        said = running.end(kill_after_s=0.0).text
        return f"no end: {_state(root)}: {said.strip()[-200:]}"
    running.process.terminate()
    outcome = running.end(limit_s=60)
    wrong = "" if outcome.code in (0, 130, 143) and "Traceback" not in outcome.text else f"exit {outcome.code}"
    return wrong or "; ".join(problems(root))


def _idle(bed: Bed) -> str:
    root = bed.copy("annotated")
    _schedule(root).end(kill_after_s=4.0)
    if _state(root)[1] == "done":
        return "a round before its time"
    _due(root)
    return _ended(root, _schedule(root))


def _scheduler(bed: Bed, after_s: float) -> str:
    root = bed.copy("annotated")
    _due(root)
    first = _schedule(root)
    _wait_for(first, root, "running")
    first.end(kill_after_s=after_s)
    return _ended(root, _schedule(root))


def _wait_for(running: Running, root: Path, phase: str) -> None:
    while running.process.is_alive() and ((state := _state(root)[0]) is None or state.phase != phase):
        time.sleep(0.2)


def _orphan(bed: Bed) -> str:
    """The next schedule starts a run beside the one that is alive: it is refused, and not told as a failure."""
    root = bed.copy("annotated")
    _due(root)
    first = _schedule(root)
    _wait_for(first, root, "running")
    while not (root / ".lock").exists() and first.process.is_alive():
        time.sleep(0.1)
    first.end(kill_after_s=1.0)
    return _ended(root, _schedule(root))


def _both(bed: Bed) -> str:
    root = bed.copy("annotated")
    run("round", "--config", root, kill_after_s=3.0)
    workspace = Workspace.open(root)
    try:
        now = datetime.now(UTC).isoformat()
        keep_state(workspace, State(cron="0 * * * *", handled=now, phase="running", since=now))
    finally:
        workspace.database.close()
    return _ended(root, _schedule(root))


def _ahead(bed: Bed) -> str:
    root = bed.copy("annotated")
    _schedule(root, shift_s=3 * 86_400.0).end(kill_after_s=5.0)
    second = _schedule(root)
    time.sleep(5.0)
    text = second.end(kill_after_s=0.0).text
    state = _state(root)[0]
    if state is None or datetime.fromisoformat(state.handled) > datetime.now(UTC) + timedelta(minutes=1):
        return f"silent for three days: {state}"
    return "" if "Traceback" not in text else "traceback"


@contextmanager
def _silent_port() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def _tracking(bed: Bed, listens: bool) -> str:
    root = bed.copy("annotated")
    with _silent_port() as port:
        uri = f"http://127.0.0.1:{port if listens else 1}"
        outcome = run("round", "--config", root, "--set", "tracking.enabled=true", "--set", f"tracking.uri={uri}")
    if outcome.code not in (0, 3):
        return f"exit {outcome.code}: {outcome.last()}"
    return f"{outcome.seconds:.0f} s" if outcome.seconds > 150 else "; ".join(problems(root))
