"""Rounds at set times, in the foreground, for a service manager to keep alive.

What is due, running and waited for lies in the workspace's database, so that a scheduler that was killed goes on where it was: a round that was running
is resumed at once, times that were missed give one run. Each run is a process of its own (``flywheel round``), which can be killed or run out of memory
without taking the schedule along. Times are meant on the wall clock of the zone: a time that the clock skips in spring comes an hour later, one that it
passes twice in autumn comes once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.rounds.conductor import STAGE_BEGAN
from flywheel.rounds.context import RoundContext
from flywheel.rounds.stages.review import num_corrections
from flywheel.store import Workspace

_KEY = "schedule"
#: Stages that cost by the hour and write no text.
_TRAINING = ("pretrain", "finetune")
#: Seconds between looks at a running round, at corrections, at the clock.
LOOK_EVERY_S = 30.0
_GRACE_S = 120.0


class Times:
    """The times of a cron line (minute, hour, day of month, month, day of week; 0 and 7 are Sunday) in a zone.

    Raises UserError for a line that is none, or never comes.
    """

    def __init__(self, cron: str, zone: tzinfo | None = None) -> None:
        from apscheduler.triggers.combining import OrTrigger
        from apscheduler.triggers.cron import CronTrigger

        self.cron, self.zone = cron, zone or _here()
        fields = cron.split()
        if len(fields) != 5:
            raise UserError(
                f"schedule.cron: '{cron}' has {len(fields)} fields, 5 are needed: minute hour day month weekday."
            )
        minute, hour, day, month, weekday = fields
        names = {"minute": minute, "hour": hour, "month": month, "timezone": UTC}
        try:
            # As cron has it: with both days given, either will do.
            days = [{"day": day}, {"day_of_week": _weekdays(weekday)}]
            either = day[0] != "*" and weekday[0] != "*"
            triggers = (
                [CronTrigger(**names, **d) for d in days] if either else [CronTrigger(**names, **days[0], **days[1])]
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"schedule.cron: '{cron}' is no cron line ({error}).") from error
        self._trigger = OrTrigger(triggers) if either else triggers[0]
        if self.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise UserError(f"schedule.cron: '{cron}' never comes.")

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than this moment; None where there is none."""
        # Counted on the wall clock as if it were UTC, which skips and repeats nothing, and set into the zone then.
        wall = moment.astimezone(self.zone).replace(tzinfo=UTC, fold=0) - timedelta(hours=3)
        while (found := self._trigger.get_next_fire_time(None, wall)) is not None:
            local = found.replace(tzinfo=self.zone, fold=0)
            # A wall time that the clock skips becomes the one it shows then.
            local = local.astimezone(UTC).astimezone(self.zone)
            if local > moment:
                return local  # type: ignore[no-any-return]
            wall = found + timedelta(seconds=1)
        return None

    def last_due(self, handled: datetime, now: datetime) -> datetime | None:
        """The newest time later than ``handled`` and not later than ``now``: what was missed before it is made up for by the same run."""
        due, found = None, self.after(handled)
        while found is not None and found <= now:
            due, found = found, self.after(found)
        return due


def _here() -> tzinfo:
    name = os.environ.get("TZ") or _linked_zone()
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def _linked_zone() -> str:
    place = os.path.realpath("/etc/localtime")
    return place.split("zoneinfo/", 1)[1] if "zoneinfo/" in place else ""


def zone_of(name: str) -> tzinfo | None:
    """A zone by its name; None for this machine's. Raises UserError for an unknown one."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UserError(f"schedule.timezone: '{name}' is unknown. Write one such as Europe/Berlin.") from error


_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _weekdays(field: str) -> str:
    """Cron's numbers as names: the trigger would count them from Monday on."""
    out = []
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        ends = span.split("-")
        if len(ends) > 2 or any(e.isdigit() and int(e) > 7 for e in ends):
            raise ValueError(f"weekday '{part}'")
        if len(ends) == 2 or (slash and span != "*"):
            numbers = [int(e) if e.isdigit() else _DAYS.index(e) for e in ends]
            low, high = numbers[0], numbers[-1] if len(ends) == 2 else 6
            high = high + 7 if high < low else high
            # Sunday is first here and last there, so that spans are written out.
            out += [_DAYS[day % 7] for day in range(low, high + 1, int(step) if slash else 1)]
        elif slash:
            out += [_DAYS[day] for day in range(0, 7, int(step))]
        else:
            out.append(_DAYS[int(span)] if span.isdigit() else span)
    return ",".join(dict.fromkeys(out))


class Clock(Protocol):
    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Job(Protocol):
    """A run under way."""

    def poll(self) -> Outcome | None: ...

    def interrupt(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: ``event`` is done, refused, waiting, busy (another process has the workspace) or failed."""

    event: str
    message: str


@dataclass(frozen=True, kw_only=True)
class State:
    """What the schedule knows. ``phase`` is idle, running, waiting (for corrections) or busy (another process has the workspace); ``handled`` the
    newest time that gave a run, ``said`` what the hook was told last."""

    cron: str = ""
    handled: str = ""
    phase: str = "idle"
    since: str = ""
    message: str = ""
    go_on: bool = False
    said: str = ""


def state_of(workspace: Workspace) -> State | None:
    raw = workspace.meta(_KEY)
    return State(**json.loads(raw)) if raw else None


class Schedule:
    """One per workspace and machine; :meth:`tick` does what is to be done now and says how long nothing is."""

    def __init__(
        self, context: RoundContext, times: Times, *, clock: Clock, launch: Callable[[list[str]], Job],
        notify: Callable[[str, dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self._context, self._workspace, self._settings = context, context.workspace, context.config.schedule
        self._times, self._clock, self._launch, self._notify = times, clock, launch, notify
        self._job: Job | None = None
        self._stopped = ""
        #: Corrections when last looked whether there are enough: with none more the answer is the same.
        self._counted = -1
        known = state_of(self._workspace)
        # What was due before there was a schedule is not made up for.
        first = State(cron=times.cron, handled=self._clock.now().isoformat())
        self._state = first if known is None or not known.handled else State(**{**asdict(known), "cron": times.cron})
        self._keep(self._state)

    def tick(self) -> float:
        """Seconds until there may be something to do."""
        now = self._clock.now()
        if self._job is not None:
            outcome = self._job.poll()
            if outcome is None:
                self._watch_budgets(now)
                return LOOK_EVERY_S
            self._ended(outcome, now)
        if self._state.phase == "running":
            say("schedule: the last run was cut off; it goes on")
            self._start(now, go_on=self._state.go_on)
            return LOOK_EVERY_S
        handled = datetime.fromisoformat(self._state.handled)
        due = self._times.last_due(handled, now)
        if due is not None:
            self._keep(State(**{**asdict(self._state), "handled": due.isoformat()}))
            self._start(now, go_on=self._patience_is_over(now))
            return LOOK_EVERY_S
        if self._state.phase in ("waiting", "busy"):
            over = self._patience_is_over(now)
            if over or self._has_what_it_waits_for():
                self._start(now, go_on=over)
                return LOOK_EVERY_S
        following = self._times.after(max(handled, now))
        quiet = (following - now).total_seconds() if following is not None else LOOK_EVERY_S
        return max(1.0, min(quiet, LOOK_EVERY_S if self._state.phase != "idle" else quiet, 3600.0))

    def stop(self) -> None:
        """Ask a run under way to end, and wait for it; the next start goes on with it."""
        if self._job is not None:
            self._job.interrupt()
            while self._job.poll() is None:
                self._clock.sleep(0.2)

    def _start(self, now: datetime, *, go_on: bool) -> None:
        arguments = ["round", "--config", str(self._workspace.root), "--json"]
        if go_on:
            arguments += ["--set", "review.wait_for=0"]
        since = self._state.since if self._state.phase == "running" else now.isoformat()
        # On record first: killed between, the next start runs it.
        self._keep(State(**{**asdict(self._state), "phase": "running", "since": since, "message": "", "go_on": go_on}))
        self._stopped = ""
        self._began = now
        self._job = self._launch(arguments)

    def _ended(self, outcome: Outcome, now: datetime) -> None:
        self._job = None
        event, message = outcome.event, self._stopped or outcome.message
        if self._stopped:
            event = "failed"
        since = self._state.since
        if event == "waiting":
            # Patience counts from when the waiting began, not from the last look.
            before = self._workspace.meta(f"{_KEY}:waits:{message.split(' waits')[0]}")
            since = before or now.isoformat()
            self._workspace.set_meta(f"{_KEY}:waits:{message.split(' waits')[0]}", since)
        phase = event if event in ("waiting", "busy") else "idle"
        told = event == "waiting" and self._state.said == message
        self._keep(
            State(
                **{
                    **asdict(self._state),
                    "phase": phase,
                    "since": since,
                    "message": message,
                    "go_on": False,
                    "said": message,
                }
            )
        )
        say(f"schedule: {event}: {message}")
        if event != "busy" and not told:
            self._notify(
                event,
                {"event": event, "message": message, "workspace": str(self._workspace.root), "at": now.isoformat()},
            )

    def _patience_is_over(self, now: datetime) -> bool:
        if self._state.phase != "waiting" or not self._settings.patience_hours or not self._state.since:
            return False
        return now - datetime.fromisoformat(self._state.since) >= timedelta(hours=self._settings.patience_hours)

    def _has_what_it_waits_for(self) -> bool:
        if self._state.phase == "busy":
            return not self._workspace.is_locked()
        said = self._workspace.num_corrections()
        if said == self._counted:
            return False
        self._counted = said
        rounds = [r for r in self._workspace.rounds() if r]
        if not rounds or self._workspace.stage(rounds[-1], "review")[0] != "waiting":
            return True
        return num_corrections(self._context, rounds[-1]) >= self._context.config.review.wait_for

    def _watch_budgets(self, now: datetime) -> None:
        hours = (now - self._began).total_seconds() / 3600
        if self._stopped:
            return
        if self._settings.max_hours and hours > self._settings.max_hours:
            self._stopped = f"the run took more than {self._settings.max_hours:g} hours (schedule.max_hours) and was stopped; the next time goes on with it"
        elif self._settings.max_money and (spent := self._money(now)) > self._settings.max_money:
            self._stopped = (
                f"the round cost {spent:.2f}, more than {self._settings.max_money:g} (schedule.max_money), and it was stopped; "
                "raise the limit to go on with it"
            )
        if self._stopped and self._job is not None:
            self._job.interrupt()

    def _money(self, now: datetime) -> float:
        """What the round cost so far: its texts, and its training by the hour, the part that runs now too."""
        rounds = [r for r in self._workspace.rounds() if r]
        if not rounds:
            return 0.0
        seconds = sum(v for stage, v in self._workspace.stages_s(rounds[-1]).items() if stage in _TRAINING)
        began = json.loads(self._workspace.meta(STAGE_BEGAN) or "[]")
        if began and began[0] == rounds[-1] and began[1] in _TRAINING:
            seconds += max(0.0, (now - datetime.fromisoformat(began[2])).total_seconds())
        return self._workspace.money(rounds[-1]) + seconds / 3600 * self._context.config.main.price_per_hour

    def _keep(self, state: State) -> None:
        self._state = state
        self._workspace.set_meta(_KEY, json.dumps(asdict(state)))


class Process:
    """``flywheel round`` as a process of its own; what it says on the way goes to ``schedule.log`` in the workspace."""

    def __init__(self, root: Path, arguments: list[str]) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        self._log = root / "schedule.log"
        self._began = self._log.stat().st_size if self._log.exists() else 0
        # A group of its own: Ctrl-C in the terminal asks the schedule alone, which asks the round.
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flywheel.cli", *arguments], stdout=self._out, stderr=log, start_new_session=True
            )
        self._asked_at: float | None = None

    def poll(self) -> Outcome | None:
        code = self._process.poll()
        if code is None:
            if self._asked_at is not None and time.monotonic() - self._asked_at > _GRACE_S:
                self._process.kill()
            return None
        self._out.seek(0)
        said = self._out.read().decode("utf-8", errors="replace")
        with open(self._log, "rb") as file:
            file.seek(self._began)
            log = file.read().decode("utf-8", errors="replace")
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
        try:
            result = json.loads(said) if said.strip() else {}
        except json.JSONDecodeError:
            result = {}
        message = str(result.get("message") or last or f"ended with {code}")
        if code == 0:
            return Outcome(event="waiting" if result.get("state") == "waiting" else "done", message=message)
        if code == 3:
            return Outcome(event="refused", message=message)
        if code == 2 and "in use by" in last:
            return Outcome(event="busy", message=last)
        return Outcome(
            event="failed", message=last if code > 0 and last else f"killed by signal {-code}" if code < 0 else message
        )

    def interrupt(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)


def hook(target: str) -> Callable[[str, dict[str, Any]], None]:
    """What is told of events: a URL gets them as JSON by POST, a command on its standard input. A hook that fails is said and stops nothing."""

    def tell(event: str, values: dict[str, Any]) -> None:
        if not target:
            return
        body = json.dumps(values)
        try:
            if target.startswith(("http://", "https://")):
                import httpx

                httpx.post(
                    target, content=body, headers={"Content-Type": "application/json"}, timeout=10.0
                ).raise_for_status()
            else:
                environment = {**os.environ, "FLYWHEEL_EVENT": event}
                subprocess.run(target, shell=True, input=body.encode(), env=environment, timeout=60, check=True)
        except Exception as error:
            # Sockets, TLS, processes, HTTP: whatever a hook does wrong, rounds go on.
            say(f"schedule.hook: {event} was not told ({type(error).__name__}: {error})")

    return tell


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the workspace's only schedule on this machine. Raises UserError where there is one."""
    descriptor = os.open(root / ".schedule.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{root}: has a schedule running already. Stop that one first.") from error
        yield
    finally:
        os.close(descriptor)


def keep_going(context: RoundContext, times: Times) -> None:
    """Until the process is asked to end: rounds at their times."""
    with alone(context.workspace.root):
        schedule = Schedule(
            context,
            times,
            clock=WallClock(),
            launch=partial(Process, context.workspace.root),
            notify=hook(context.config.schedule.hook),
        )
        following = times.after(datetime.now(UTC))
        say(f"schedule: '{times.cron}', next at {following.isoformat(timespec='minutes') if following else 'no time'}")
        try:
            while True:
                time.sleep(schedule.tick())
        finally:
            schedule.stop()
