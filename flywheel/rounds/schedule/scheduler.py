"""Decides when a round runs.

What is due, running and waited for lies in the workspace's database: a round that was running when the scheduler was
killed is resumed at once, and times that were missed give one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from flywheel.core.progress import say
from flywheel.rounds.answers import left_to_ask
from flywheel.rounds.schedule.budget import money_spent
from flywheel.rounds.schedule.hooks import Notify, hook
from flywheel.rounds.schedule.process import Event, Outcome, RoundProcess
from flywheel.rounds.schedule.state import Phase, State, keep_state, only_schedule, state_of, waiting_since
from flywheel.rounds.schedule.times import Times
from flywheel.store import Workspace

if TYPE_CHECKING:
    from flywheel.rounds.context import RoundContext

#: Seconds between looks at a running round, at corrections, at the clock.
LOOK_EVERY_S = 30.0
_LONGEST_SLEEP_S = 3600.0
#: Phases after the events that a later look comes back to.
_PHASES: dict[Event, Phase] = {"waiting": "waiting", "busy": "busy"}


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """The time, with its zone."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Job(Protocol):
    """A run under way."""

    def poll(self) -> Outcome | None:
        """How the run ended; None while it runs."""

    def interrupt(self) -> None:
        """Ask the run to end."""


class Scheduler:
    """Runs the rounds of a workspace; call :meth:`tick` again and again. One per workspace and machine.

    ``launch`` starts ``flywheel`` with these arguments, ``notify`` is told of events, and ``num_corrections`` counts
    the corrections of a round.
    """

    def __init__(
        self,
        workspace: Workspace,
        times: Times,
        *,
        clock: Clock,
        launch: Callable[[list[str]], Job],
        notify: Notify,
        num_corrections: Callable[[int], int],
    ) -> None:
        self._workspace, self._config, self._times = workspace, workspace.config, times
        self._clock, self._launch, self._notify, self._num_corrections = clock, launch, notify, num_corrections
        self._job: Job | None = None
        self._job_began = clock.now()
        #: Why the run was interrupted; "" while it was not.
        self._stop_reason = ""
        #: Rows of corrections at the last count: with none more, a round that waited still waits.
        self._num_rows_counted = -1
        state = state_of(workspace)
        if state is None or not state.handled:
            # What was due before there was a schedule is not made up for.
            state = State(handled=clock.now().isoformat())
        self._keep(replace(state, cron=times.cron))

    def tick(self) -> float:
        """Do what is due now; returns the seconds until there may be more."""
        now = self._clock.now()
        self._come_back_to(now)
        if self._job is not None:
            outcome = self._job.poll()
            if outcome is None:
                self._watch_budgets(now)
                return LOOK_EVERY_S
            self._finish(outcome, now)
        if self._start_if_due(now):
            return LOOK_EVERY_S
        following = self._times.after(max(datetime.fromisoformat(self._state.handled), now))
        seconds = (following - now).total_seconds() if following is not None else LOOK_EVERY_S
        longest = _LONGEST_SLEEP_S if self._state.phase == "idle" else LOOK_EVERY_S
        return max(1.0, min(seconds, longest))

    def stop(self) -> None:
        """Ask a run under way to end, and wait for it; the next start goes on with it."""
        if self._job is not None:
            self._job.interrupt()
            while self._job.poll() is None:
                self._clock.sleep(0.2)

    def _come_back_to(self, now: datetime) -> None:
        """Cut what is on record and still to come: a clock that ran ahead must not silence the schedule for as long.

        A time that ran already by a clock that was set back a little is not run again.
        """
        handled, following = datetime.fromisoformat(self._state.handled), self._times.after(now)
        if following is not None and following < handled:
            say(
                f"schedule: the clock was set back: {self._state.handled} ran already. "
                f"Times count from now on, next {following.isoformat(timespec='minutes')}"
            )
            self._keep(replace(self._state, handled=now.isoformat()))
        if self._state.since and datetime.fromisoformat(self._state.since) > now:
            self._keep(replace(self._state, since=now.isoformat()))

    def _start_if_due(self, now: datetime) -> bool:
        if self._state.phase == "running":
            say("schedule: the last run was cut off; it goes on")
            self._start(now, go_on=self._state.go_on)
            return True
        impatient = self._is_patience_over(now)
        due = self._times.last_due(datetime.fromisoformat(self._state.handled), now)
        if due is not None:
            self._keep(replace(self._state, handled=due.isoformat()))
        if due is not None or impatient or self._can_go_on():
            self._start(now, go_on=impatient)
            return True
        return False

    def _start(self, now: datetime, *, go_on: bool) -> None:
        arguments = ["round", "--config", str(self._workspace.root), "--json"]
        if go_on:
            arguments += ["--set", "review.wait_for=0"]
        since = self._state.since if self._state.phase == "running" else now.isoformat()
        # On record first: killed between, the next start runs it.
        self._keep(replace(self._state, phase="running", since=since, message="", go_on=go_on))
        self._stop_reason, self._job_began = "", now
        self._job = self._launch(arguments)

    def _finish(self, outcome: Outcome, now: datetime) -> None:
        self._job = None
        if self._stop_reason:
            outcome = Outcome(event="failed", message=self._stop_reason)
        event, message, wait = outcome.event, outcome.message, outcome.wait
        is_known = wait is not None and wait == self._state.notified
        # Patience counts from when the waiting began, not from the last look.
        since = self._state.since if wait is None else waiting_since(self._workspace, wait.round, now)
        phase = _PHASES.get(event, "idle")
        self._keep(replace(self._state, phase=phase, since=since, message=message, go_on=False, notified=wait))
        say(f"schedule: {event}: {message}")
        if event != "busy" and not is_known:
            root = str(self._workspace.root)
            self._notify(event, {"event": event, "message": message, "workspace": root, "at": now.isoformat()})

    def _is_patience_over(self, now: datetime) -> bool:
        patience_hours = self._config.schedule.patience_hours
        if self._state.phase != "waiting" or not patience_hours or not self._state.since:
            return False
        return now - datetime.fromisoformat(self._state.since) >= timedelta(hours=patience_hours)

    def _can_go_on(self) -> bool:
        """Whether what the last run waited for is there: the workspace's lock, or enough corrections."""
        if self._state.phase == "busy":
            return not self._workspace.is_locked()
        if self._state.phase != "waiting":
            return False
        num_rows = self._workspace.num_corrections()
        if num_rows == self._num_rows_counted:
            return False
        self._num_rows_counted = num_rows
        rounds = [r for r in self._workspace.rounds() if r]
        if not rounds or self._workspace.stage(rounds[-1], "review")[0] != "waiting":
            return True
        enough = self._num_corrections(rounds[-1]) >= self._config.review.wait_for
        return enough or not left_to_ask(self._workspace, rounds[-1])

    def _watch_budgets(self, now: datetime) -> None:
        if not self._stop_reason and (reason := self._broken_budget(now)):
            self._stop_reason = reason
            if self._job is not None:
                self._job.interrupt()

    def _broken_budget(self, now: datetime) -> str:
        """Which limit the run broke, as a message; "" where it broke none."""
        limits = self._config.schedule
        hours = (now - self._job_began).total_seconds() / 3600
        if limits.max_hours and hours > limits.max_hours:
            return (
                f"the run took more than {limits.max_hours:g} hours (schedule.max_hours) and was stopped; "
                "the next time goes on with it"
            )
        if not limits.max_money:
            return ""
        spent = money_spent(self._workspace, now, self._config.main.price_per_hour)
        if spent <= limits.max_money:
            return ""
        return (
            f"the round cost {spent:.2f}, more than {limits.max_money:g} (schedule.max_money), and it was stopped; "
            "raise the limit to go on with it"
        )

    def _keep(self, state: State) -> None:
        self._state = state
        keep_state(self._workspace, state)


def run_schedule(context: RoundContext, times: Times) -> None:
    """Run rounds at their times until the process is asked to end."""
    from flywheel.rounds.stages.review import num_corrections

    workspace = context.workspace
    with only_schedule(workspace.root):
        scheduler = Scheduler(
            workspace,
            times,
            clock=WallClock(),
            launch=partial(RoundProcess, workspace.root),
            notify=hook(workspace.config.schedule.hook),
            num_corrections=partial(num_corrections, context),
        )
        following = times.after(datetime.now(UTC))
        say(f"schedule: '{times.cron}', next at {following.isoformat(timespec='minutes') if following else 'no time'}")
        try:
            while True:
                time.sleep(scheduler.tick())
        finally:
            scheduler.stop()
