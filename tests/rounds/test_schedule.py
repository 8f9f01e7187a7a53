"""The schedule: thirty days on a clock of the test's own, with crashes, overlaps,
missed runs and changes of the clock; and the real command."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flywheel.core.errors import UserError
from flywheel.rounds import RoundContext
from flywheel.rounds.schedule.hooks import hook
from flywheel.rounds.schedule.process import Outcome, RoundProcess, outcome_of
from flywheel.rounds.schedule.scheduler import Scheduler
from flywheel.rounds.schedule.state import State, Wait, keep_state, only_schedule, state_of
from flywheel.rounds.schedule.times import Times
from flywheel.rounds.schedule.units import Plan, on_calendar, unit_file
from flywheel.rounds.stages.review import num_corrections
from flywheel.status import status_of
from flywheel.store import Workspace
from tests.rounds.test_rounds import context_of, correct

Make = Callable[..., Workspace]
BERLIN = ZoneInfo("Europe/Berlin")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Run:
    """A run that ends when its time is over, or when it is asked to."""

    clock: Clock
    began: datetime
    arguments: list[str]
    lasts: timedelta
    outcome: Outcome
    ended: datetime | None = None
    asked: bool = False

    def poll(self) -> Outcome | None:
        if self.ended is None and (self.asked or self.clock.at >= self.began + self.lasts):
            self.ended = self.clock.at
        return None if self.ended is None else self.outcome

    def interrupt(self) -> None:
        self.asked = True


PROMOTED = Outcome(event="done", message="round 1 promoted")
WAITS = Outcome(event="waiting", message="too few corrections", wait=Wait(round=1, have=0, wanted=1))


@dataclass
class World:
    """A workspace's schedule with runs that last as long as the test says."""

    context: RoundContext
    clock: Clock
    times: Times
    lasts: timedelta = timedelta(hours=1)
    outcome: Outcome = PROMOTED
    runs: list[Run] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.schedule = Scheduler(
            self.context.workspace,
            self.times,
            clock=self.clock,
            launch=self.launch,
            notify=lambda event, values: self.told.append(event),
            num_corrections=partial(num_corrections, self.context),
        )

    def launch(self, arguments: list[str]) -> Run:
        assert all(run.ended is not None for run in self.runs), "never two rounds at once"
        self.runs.append(Run(self.clock, self.clock.at, arguments, self.lasts, self.outcome))
        return self.runs[-1]

    def crash(self) -> None:
        """Both the schedule and its run are killed."""
        for run in self.runs:
            run.ended = run.ended or self.clock.at

    def until(self, end: datetime) -> None:
        while self.clock.at < end:
            self.clock.sleep(min(self.schedule.tick(), (end - self.clock.at).total_seconds()))


def world(make: Make, corpus: Path, start: datetime, cron: str = "0 2 * * *", *overrides: str, **more: Any) -> World:
    context = context_of(make, corpus, *overrides)
    return World(context, Clock(start), Times(cron, BERLIN), **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [datetime(2026, 3, 14, 12, tzinfo=BERLIN), datetime(2026, 10, 10, 12, tzinfo=BERLIN)],
    ids=["spring", "autumn"],
)
@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *"])
def test_thirty_days_have_thirty_runs(make_workspace: Make, corpus: Path, start: datetime, cron: str) -> None:
    """Through the nights on which 2:30 is not, or is twice."""
    w = world(make_workspace, corpus, start, cron)
    w.until(start + timedelta(days=30))
    nights = [run.began.astimezone(BERLIN).date() for run in w.runs]
    assert len(nights) == len(set(nights)) == 30
    minutes = {(run.began.astimezone(BERLIN).hour, run.began.astimezone(BERLIN).minute) for run in w.runs}
    skipped = {(3, int(cron.split()[0]))} if start.month == 3 else set()
    assert minutes == {(2, int(cron.split()[0]))} | skipped, (
        "on the wall clock, but for the night that has no such time"
    )
    assert w.told == ["done"] * 30


@pytest.mark.slow
def test_thirty_days_with_crashes_overlaps_and_missed_runs(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 10, 10, 12, tzinfo=BERLIN)
    w = world(make_workspace, corpus, start)

    def night(day: int) -> datetime:
        return datetime.combine(date(2026, 10, 10) + timedelta(days=day), datetime.min.time(), BERLIN) + timedelta(
            hours=2
        )

    w.until(night(3) + timedelta(minutes=20))
    assert len(w.runs) == 3
    w.crash()  # in the middle of the third run
    w.clock.at = night(3) + timedelta(hours=5)
    w.start()
    w.until(night(4) - timedelta(hours=1))
    assert len(w.runs) == 4, "what was cut off goes on at once"
    assert w.runs[-1].began == night(3) + timedelta(hours=5)
    # The machine is off for four nights.
    w.clock.at = night(8) - timedelta(hours=4)
    w.start()
    w.until(night(8) - timedelta(hours=1))
    assert len(w.runs) == 5, "four missed runs run once"
    # A run of three nights.
    w.lasts = timedelta(hours=60)
    w.until(night(8) + timedelta(hours=1))
    w.lasts = timedelta(hours=1)
    w.until(night(11) + timedelta(hours=3))
    assert len(w.runs) == 8, "the long one, one for the nights that fell into it, and the next night's"
    assert w.runs[6].began - w.runs[5].ended < timedelta(minutes=2), "the missed ones right after it"
    # Killed again and again while it starts.
    for _ in range(5):
        w.crash()
        w.start()
    w.until(night(30) + timedelta(hours=3))
    nights = [run.began.astimezone(BERLIN).date() for run in w.runs[8:]]
    assert nights == [night(day).date() for day in range(12, 31)]


@pytest.mark.slow
def test_a_clock_that_is_set_back_runs_nothing_twice(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(make_workspace, corpus, start)
    w.until(start + timedelta(days=2))
    assert len(w.runs) == 2
    w.clock.at -= timedelta(days=1)
    w.until(start + timedelta(days=2))
    assert len(w.runs) == 2
    w.until(start + timedelta(days=3))
    assert len(w.runs) == 3


@pytest.mark.slow
def test_a_clock_that_ran_ahead_silences_nothing(
    make_workspace: Make, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(make_workspace, corpus, start + timedelta(days=3), "28 10 * * *")
    w.until(start + timedelta(days=4))
    assert len(w.runs) == 1
    w.clock.at = start
    w.start()
    w.schedule.tick()
    assert "the clock was set back: 2026-06-05T10:28" in capsys.readouterr().err
    w.until(start + timedelta(days=2))
    days = [run.began.astimezone(BERLIN).date() for run in w.runs[1:]]
    assert days == [date(2026, 6, 2), date(2026, 6, 3)]


def test_a_schedule_without_a_process_is_not_idle(ingested: Workspace) -> None:
    keep_state(
        ingested, State(cron="0 2 * * *", handled=datetime.now(UTC).isoformat(), phase="idle", since="2026-01-01")
    )
    with only_schedule(ingested.root):
        running = status_of(ingested).schedule
        assert running is not None
        assert (running.phase, running.next is None) == ("idle", False)
    stopped = status_of(ingested).schedule
    assert stopped is not None
    assert (stopped.phase, stopped.next) == ("stopped", None)
    assert "'0 2 * * *': stopped (no process runs it; it was idle since 2026-01-01; 'flywheel schedule start'" in str(
        status_of(ingested)
    )


def test_a_run_says_its_own_last_line_beside_an_orphans(tmp_path: Path) -> None:
    """The round of a schedule that was killed still writes, and ends later; each run has a log of its own."""
    orphan = open(tmp_path / "schedule.log", "ab", buffering=0)  # noqa: SIM115
    orphan.write(b"round 1: pretrain\n")
    run = RoundProcess(tmp_path, ["--nosuch"])
    orphan.write(b"round 1 undecided: only 1 corrected anchors\n")
    while (outcome := run.poll()) is None:
        time.sleep(0.05)
    assert (outcome.event, "--nosuch" in outcome.message) == ("failed", True), outcome
    assert "--nosuch" in (tmp_path / "schedule.log").read_text()
    [old] = tmp_path.glob("schedule-*.log")
    assert old.read_text().endswith("round 1 undecided: only 1 corrected anchors\n")
    orphan.close()


@pytest.mark.slow
def test_it_waits_for_corrections_and_goes_on_when_they_are_there(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(make_workspace, corpus, start, "0 2 * * *", "review.wait_for=1", outcome=WAITS)
    from flywheel.rounds import run_round

    assert run_round(w.context)["state"] == "waiting"
    w.until(start + timedelta(hours=20))
    assert (len(w.runs), w.told) == (1, ["waiting"])
    with only_schedule(w.context.workspace.root):
        status = status_of(w.context.workspace)
    assert status.schedule is not None
    assert (status.schedule.phase, status.schedule.message) == ("waiting", "too few corrections")
    assert "waiting (too few corrections)" in str(status)
    correct(w.context, w.context.split("train")[0].id, "a person's text")
    w.outcome = Outcome(event="refused", message="round 1 refused: not better")
    w.until(start + timedelta(hours=23))
    assert (len(w.runs), w.told) == (2, ["waiting", "refused"]), "not at the next night, but when there is enough"
    assert "review.wait_for=0" not in w.runs[1].arguments


@pytest.mark.slow
def test_patience_ends(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(
        make_workspace, corpus, start, "0 2 * * *", "review.wait_for=1", "schedule.patience_hours=30", outcome=WAITS
    )
    from flywheel.rounds import run_round

    run_round(w.context)
    w.until(start + timedelta(hours=44))
    assert {tuple(r.arguments[-2:]) for r in w.runs} == {(str(w.context.workspace.root), "--json")}
    w.outcome = PROMOTED
    w.until(start + timedelta(hours=48))
    assert w.runs[-1].arguments[-2:] == ["--set", "review.wait_for=0"]
    waited = w.runs[-1].began - (w.runs[0].ended or start)
    assert timedelta(hours=30) <= waited < timedelta(hours=30, minutes=2), (
        "since it began to wait, not since it looked last"
    )
    assert w.told == ["waiting", "done"]


@pytest.mark.slow
def test_patience_counts_on_from_what_earlier_versions_wrote(make_workspace: Make, corpus: Path) -> None:
    """Their state had a field more, and their key the words of a message."""
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    context = context_of(make_workspace, corpus, "review.wait_for=1", "schedule.patience_hours=30")
    from flywheel.rounds import run_round

    run_round(context)
    since = (start - timedelta(hours=10)).isoformat()
    old = {
        "cron": "0 2 * * *",
        "handled": start.isoformat(),
        "phase": "idle",
        "since": "",
        "message": "",
        "go_on": False,
    }
    context.workspace.set_meta(
        "schedule", json.dumps({**old, "said": "round 1 waits for 1 more corrections (0 of 1)."})
    )
    context.workspace.set_meta("schedule:waits:round 1", since)
    w = World(context, Clock(start), Times("0 2 * * *", BERLIN), outcome=WAITS)
    w.until(start + timedelta(hours=19))
    assert len(w.runs) == 1
    w.until(start + timedelta(hours=20, minutes=2))
    assert w.runs[-1].arguments[-2:] == ["--set", "review.wait_for=0"], "30 hours after it began, 10 of them before"


@pytest.mark.parametrize(
    ("exit_code", "result", "event", "message"),
    [
        (0, {"state": "done", "code": "", "waiting": None, "message": "round 1 promoted"}, "done", "round 1 promoted"),
        (3, {"state": "done", "code": "gate", "message": "in use by"}, "refused", "in use by"),
        (2, {"error": {"code": "busy", "message": "another has it", "exit": 2}}, "busy", "another has it"),
        (2, {"error": {"code": "", "message": "in use by nobody", "exit": 2}}, "failed", "in use by nobody"),
        (1, {}, "failed", "the log's last line"),
        (-9, {}, "failed", "killed by signal 9"),
    ],
)
def test_how_a_run_ended_is_read_from_its_values(
    exit_code: int, result: dict[str, Any], event: str, message: str
) -> None:
    """The words of a message decide nothing."""
    assert outcome_of(exit_code, result, "the log's last line") == Outcome(event=event, message=message)  # type: ignore[arg-type]


def test_a_wait_is_read_from_its_values() -> None:
    result = {"state": "waiting", "waiting": {"round": 3, "have": 1, "wanted": 5}, "message": "any words"}
    outcome = outcome_of(0, result)
    assert (outcome.event, outcome.wait) == ("waiting", Wait(round=3, have=1, wanted=5))


@pytest.mark.slow
def test_a_workspace_in_use_is_come_back_to(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(
        make_workspace,
        corpus,
        start,
        outcome=Outcome(event="busy", message="in use by another"),
        lasts=timedelta(seconds=5),
    )
    holder = Workspace.open(w.context.workspace.root)
    with holder.lock():
        w.until(start + timedelta(hours=20))
        assert len(w.runs) == 1
    w.outcome = PROMOTED
    w.until(start + timedelta(hours=20, minutes=5))
    assert (len(w.runs), w.told) == (2, ["done"])
    holder.database.close()


@pytest.mark.slow
def test_budgets_stop_a_run(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(
        make_workspace,
        corpus,
        start,
        "0 2 * * *",
        "schedule.max_hours=3",
        "schedule.max_money=10",
        lasts=timedelta(hours=12),
        outcome=Outcome(event="failed", message="interrupted"),
    )
    w.until(start + timedelta(days=1))
    assert w.told == ["failed"]
    assert timedelta(hours=3) < w.runs[0].ended - w.runs[0].began < timedelta(hours=3, minutes=2)
    state = state_of(w.context.workspace)
    assert state is not None
    assert "schedule.max_hours" in state.message
    w.context.workspace.set_stage(1, "annotate", "running", {})
    for kind, money in (("caption", 9.0), ("tags", 1.5)):
        w.context.workspace.ledger.add_cost(1, kind, "learn", {"money": money})
    w.until(start + timedelta(days=2))
    assert w.runs[1].ended - w.runs[1].began < timedelta(minutes=2)
    assert "the round cost 10.50, more than 10" in state_of(w.context.workspace).message  # type: ignore[union-attr]


@pytest.mark.slow
def test_training_costs_by_the_hour_while_it_runs(make_workspace: Make, corpus: Path) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    w = world(
        make_workspace,
        corpus,
        start,
        "0 2 * * *",
        "schedule.max_money=10",
        "annotate.price_per_hour=2",
        lasts=timedelta(hours=12),
        outcome=Outcome(event="failed", message="interrupted"),
    )
    workspace = w.context.workspace
    workspace.ledger.add_cost(1, "caption", "learn", {"money": 3.0})
    workspace.set_stage(1, "pretrain", "done", {}, 1800.0)
    workspace.set_meta("stage_began", json.dumps([1, "finetune", datetime(2026, 6, 2, 2, tzinfo=BERLIN).isoformat()]))
    w.until(start + timedelta(days=1))
    # 3 of texts and 1 of pretraining are spent; the other 6 are three hours of fine-tuning.
    assert timedelta(hours=2, minutes=59) < w.runs[0].ended - w.runs[0].began < timedelta(hours=3, minutes=3)
    assert "more than 10 (schedule.max_money)" in state_of(workspace).message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("0 2 * *", "has 4 fields"),
        ("61 * * * *", "is no cron line"),
        ("0 0 31 2 *", "never comes"),
        ("0 2 * * 9", "is no cron line"),
        ("a b c d e", "is no cron line"),
    ],
)
def test_lines_that_are_none(cron: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Times(cron, UTC)


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 2 * * 0", "06 13 20 27"),
        ("0 2 * * 7", "06 13 20 27"),
        ("0 2 * * 1-3", "01 02 07 08 09 14 15 16 21 22 23 28 29 30"),
        ("0 2 * * 5-7", "04 05 06 11 12 13 18 19 20 25 26 27"),
        ("0 2 * * sat,sun", "05 06 12 13 19 20 26 27"),
        ("0 2 1 * 1", "01 07 14 21 28"),
        ("0 2 */10 * *", "01 11 21"),
        ("0 2 * * */3", "02 05 06 09 12 13 16 19 20 23 26 27 30"),
        ("0 2 10 9 *", "10"),
    ],
)
def test_days_are_cron_s(cron: str, days: str) -> None:
    """In September 2026, which begins on a Tuesday; both days given mean either."""
    times, found, at = Times(cron, UTC), [], datetime(2026, 8, 31, 23, tzinfo=UTC)
    while (at := times.after(at) or datetime(2030, 1, 1, tzinfo=UTC)) < datetime(2026, 10, 1, tzinfo=UTC):
        found.append(f"{at.day:02d}")
    assert " ".join(found) == days


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("0 2 * * *", ["*-*-* 2:0:00"]),
        ("*/15 1-5 * * *", ["*-*-* 1..5:0/15:00"]),
        ("0 2 * * 1-5", ["Mon..Fri *-*-* 2:0:00"]),
        ("0 2 * * 0,6", ["Sun,Sat *-*-* 2:0:00"]),
        ("0 2 1 */3 *", ["*-1/3-1 2:0:00"]),
        ("5 4 1 * sun", ["*-*-1 4:5:00", "Sun *-*-* 4:5:00"]),
        ("0 2 * jan,jul *", ["*-1,7-* 2:0:00"]),
        ("0 2 * * 0-2", ["Sun,Mon..Tue *-*-* 2:0:00"]),
    ],
)
def test_systemd_s_calendar(cron: str, wanted: list[str]) -> None:
    assert on_calendar(cron) == wanted


def test_other_schedulers_files_are_what_they_read(tmp_path: Path) -> None:
    import yaml

    plan = Plan(cron="0 2 * * *", root=tmp_path, python="python", zone="Europe/Berlin")
    job = yaml.safe_load(unit_file("kubernetes", plan))
    assert (job["kind"], job["spec"]["schedule"]) == ("CronJob", "0 2 * * *")
    assert (job["spec"]["timeZone"], job["spec"]["concurrencyPolicy"]) == ("Europe/Berlin", "Forbid")
    for kind, zoned in (
        ("airflow", "start_date=pendulum.datetime(2026, 1, 1, tz='Europe/Berlin')"),
        ("prefect", "schedules=[CronSchedule(cron='0 2 * * *', timezone='Europe/Berlin')]"),
    ):
        for zone in ("", "Europe/Berlin"):
            text = unit_file(kind, replace(plan, root=tmp_path / "it's", zone=zone))
            tree = ast.parse(text)
            assert (zoned in text) == bool(zone)
            bound = {alias.name for node in ast.walk(tree) if hasattr(node, "names") for alias in node.names}
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert used - bound <= {"flywheel_round", "done", "RuntimeError", "__name__"}, "all else is imported"
    assert "Persistent=true" in unit_file("systemd", plan)
    assert unit_file("crontab", plan).startswith("CRON_TZ=Europe/Berlin\n0 2 * * * python -m flywheel.cli round")
    with pytest.raises(UserError, match="'at' is unknown"):
        unit_file("at", plan)


def test_hooks_hear_and_can_not_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(heard) > 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    hook(url)("done", {"event": "done", "message": "x"})
    hook(url)("failed", {"event": "failed", "message": "y"})
    server.shutdown()
    server.server_close()
    assert [h["event"] for h in heard] == ["done", "failed"]
    hook(f"cat > {tmp_path}/said; echo $FLYWHEEL_EVENT > {tmp_path}/event")("refused", {"event": "refused"})
    assert json.loads((tmp_path / "said").read_text()) == {"event": "refused"}
    assert (tmp_path / "event").read_text().strip() == "refused"
    hook("exit 7")("done", {})
    hook("")("done", {})
    assert capsys.readouterr().err.count("was not told") == 2


def test_one_schedule_for_a_workspace(tmp_path: Path) -> None:
    with (
        only_schedule(tmp_path),
        pytest.raises(UserError, match="has a schedule running already") as refused,
        only_schedule(tmp_path),
    ):
        pass
    assert refused.value.code == "locked"


@pytest.mark.slow
def test_the_command_runs_rounds_and_ends_when_asked(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """Every minute, for real; asked to end in the middle of a run it ends, and the next start goes on."""
    context = context_of(make_workspace, corpus)
    root = context.workspace.root
    settings = [
        "annotate.engine=fake",
        "pretrain.num_steps=0",
        "finetune.num_steps=0",
        "evaluate.agreement_pairs=0",
        "tracking.enabled=false",
    ]
    text = (root / "flywheel.yaml").read_text()
    import yaml

    raw = yaml.safe_load(text)
    for setting in settings:
        section, _, rest = setting.partition(".")
        key, _, value = rest.partition("=")
        raw[section][key] = yaml.safe_load(value)
    raw["schedule"]["hook"] = f"cat >> {tmp_path}/told; echo >> {tmp_path}/told"
    (root / "flywheel.yaml").write_text(yaml.safe_dump(raw))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "flywheel.cli", "schedule", "start", "--cron", "* * * * *", "--config", str(root)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    process = start()
    try:
        deadline = time.monotonic() + 150
        while not (tmp_path / "told").exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
        assert told[0]["event"] == "refused", "no anchors: nothing is promoted"
        assert "0 of at least" in told[0]["message"]
        while True:
            state = state_of(context.workspace)
            if state is not None and state.phase == "running":
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert state_of(context.workspace).phase == "running"  # type: ignore[union-attr]
    finally:
        process.kill()
        process.wait(20)
    before = context.workspace.rounds()
    process = start()
    try:
        deadline = time.monotonic() + 150
        while len((tmp_path / "told").read_text().splitlines()) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert len((tmp_path / "told").read_text().splitlines()) >= 2, "at once, not at the next minute but one"
        assert context.workspace.rounds()[: len(before)] == before
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
