"""Files that make other schedulers run the rounds: systemd, crontab, Kubernetes, Airflow, Prefect."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.errors import UserError

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_NAMES = tuple(day.lower() for day in _DAYS[:7])
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_SYSTEMD = """\
# ~/.config/systemd/user/flywheel.service
[Unit]
Description=A round of the flywheel

[Service]
Type=oneshot
ExecStart={command}
# A gate that said no (3) is an outcome, not a failure.
SuccessExitStatus=3

# ~/.config/systemd/user/flywheel.timer; then: systemctl --user enable --now flywheel.timer
[Unit]
Description=Rounds of the flywheel

[Timer]
{calendars}
# What was missed while the machine was off runs once.
Persistent=true

[Install]
WantedBy=timers.target
"""

_KUBERNETES = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: flywheel
spec:
  schedule: "{cron}"
{zone}  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 86400
  jobTemplate:
    spec:
      backoffLimit: 3
      podFailurePolicy:
        rules:
          - action: FailJob  # a gate that said no is not tried again
            onExitCodes:
              containerName: round
              operator: In
              values: [2, 3]
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: round
              image: flywheel:latest  # an image with this package
              command: [flywheel, round, --config, /workspace]
              volumeMounts:
                - {{name: workspace, mountPath: /workspace}}
          volumes:
            - name: workspace
              persistentVolumeClaim: {{claimName: flywheel-workspace}}
"""

_AIRFLOW = """\
{imported}
from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG(
    'flywheel', schedule={cron!r}, start_date={start}, catchup=False, max_active_runs=1,
):
    # Exit 3, a gate that said no, marks the task as skipped.
    BashOperator(task_id='round', bash_command={command!r}, skip_on_exit_code=3)
"""

_PREFECT = """\
import subprocess

from prefect import flow
{imported}

@flow
def flywheel_round():
    done = subprocess.run({arguments!r})
    if done.returncode not in (0, 3):  # 3 is a gate that said no
        raise RuntimeError(f'flywheel round ended with {{done.returncode}}')


if __name__ == '__main__':
    flywheel_round.serve(name='flywheel', {schedule})
"""

#: Words that systemd takes as they are.
_PLAIN = re.compile(r"[\w@%+=:,./$-]+")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cron line in a zone ("" is the machine's), and the workspace and Python that rounds run with."""

    cron: str
    root: Path
    python: str
    zone: str = ""

    @property
    def arguments(self) -> list[str]:
        """The command of one round, word by word."""
        return [self.python, "-m", "flywheel.cli", "round", "--config", str(self.root)]

    @property
    def command(self) -> str:
        """The same for a shell."""
        return shlex.join(self.arguments)


def unit_file(kind: str, plan: Plan) -> str:
    """The file, or line, that makes scheduler ``kind`` run the plan's rounds.

    Each run is ``flywheel round``, which goes on where the last one was cut off and is refused while another runs.
    Raises UserError for an unknown kind, and for a folder whose name can't stand in such a file.
    """
    if kind not in _KINDS:
        *others, last = _KINDS
        raise UserError(f"schedule write: '{kind}' is unknown. There are {', '.join(others)} and {last}.")
    return _KINDS[kind](plan)


def on_calendar(cron: str, zone: str = "") -> list[str]:
    """A cron line as values of systemd's ``OnCalendar`` (systemd.time(7)).

    There are two where both days are given, since in cron either will do. Raises UserError for a line of another form.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise UserError(f"'{cron}' has {len(fields)} fields, 5 are needed: minute hour day month weekday.")
    minute, hour, day, month, weekday = fields
    clock = f"{_numbers(hour, 0)}:{_numbers(minute, 0)}:00"
    month = _numbers(_named(month, _MONTHS, 1), 1)
    tail = f" {zone}" if zone else ""
    by_day = f"*-{month}-{_numbers(day, 1)} {clock}{tail}"
    if weekday == "*":
        return [by_day]
    by_week = f"{_week(weekday)} *-{month}-* {clock}{tail}"
    return [by_week] if day[0] == "*" else [by_day, by_week]


def _systemd(plan: Plan) -> str:
    calendars = "\n".join(f"OnCalendar={value}" for value in on_calendar(plan.cron, plan.zone))
    return _SYSTEMD.format(command=" ".join(map(_systemd_word, plan.arguments)), calendars=calendars)


def _systemd_word(word: str) -> str:
    """A word of systemd's ``ExecStart`` (systemd.service(5)): its quotes and escapes are not a shell's."""
    # Specifiers and variables are looked for within quotes too.
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        word = word.replace(character, escape)
    return f'"{word}"'


def _crontab(plan: Plan) -> str:
    head = f"CRON_TZ={plan.zone}\n" if plan.zone else ""
    command = f"{plan.command} >> {shlex.quote(str(plan.root / 'rounds.log'))} 2>&1"
    if "\n" in command:
        raise UserError(f"schedule write: {plan.root}: a crontab has no word for a line break. Rename the folder.")
    # cron reads a bare % as a line break, and takes the backslash before it away, whatever quotes stand around.
    command = command.replace("\\%", "\\''%").replace("%", "\\%")
    return f"{head}{plan.cron} {command}\n"


def _kubernetes(plan: Plan) -> str:
    return _KUBERNETES.format(cron=plan.cron, zone=f"  timeZone: {plan.zone}\n" if plan.zone else "")


def _airflow(plan: Plan) -> str:
    # The operator fills the command in as a template, and takes one that ends with .sh for the name of a file.
    command = plan.command.replace("{", "{{ '{' }}")
    command = f"{command} " if command.endswith((".sh", ".bash")) else command
    # Of a plain date it takes the zone of its own configuration; the schedule's is that of the first day.
    imported, start = "from datetime import datetime\n", "datetime(2026, 1, 1)"
    if plan.zone:
        imported, start = "import pendulum", f"pendulum.datetime(2026, 1, 1, tz={plan.zone!r})"
    return _AIRFLOW.format(cron=plan.cron, command=command, imported=imported, start=start)


def _prefect(plan: Plan) -> str:
    imported, schedule = "", f"cron={plan.cron!r}"
    if plan.zone:
        # ``cron`` alone is UTC's, and takes no zone.
        imported = "from prefect.client.schemas.schedules import CronSchedule\n"
        schedule = f"schedules=[CronSchedule(cron={plan.cron!r}, timezone={plan.zone!r})]"
    return _PREFECT.format(arguments=plan.arguments, imported=imported, schedule=schedule)


_KINDS: dict[str, Callable[[Plan], str]] = {
    "systemd": _systemd,
    "crontab": _crontab,
    "kubernetes": _kubernetes,
    "airflow": _airflow,
    "prefect": _prefect,
}


def _named(field: str, names: tuple[str, ...], first: int) -> str:
    """The field with names of days or months as numbers."""
    for number, name in enumerate(names, first):
        field = field.lower().replace(name, str(number))
    return field


def _numbers(field: str, first: int) -> str:
    """Spans and steps of numbers as systemd writes them; ``first`` is the smallest number there is."""
    parts = []
    for part in field.split(","):
        span, slash, step = part.partition("/")
        start = f"{first}" if span == "*" else span.replace("-", "..")
        parts.append(f"{start}/{step}" if slash else span.replace("-", ".."))
    return ",".join(parts)


def _week(field: str) -> str:
    """Weekdays as systemd writes them. Raises UserError for steps."""
    parts = []
    for part in _named(field, _DAY_NAMES, 0).split(","):
        if "/" in part:
            raise UserError(f"weekday '{field}': systemd knows no steps of weekdays. List the days.")
        ends = [_DAYS[int(end)] for end in part.split("-")]
        # systemd's week begins with Monday.
        if len(ends) == 2 and ends[0] == "Sun" and ends[1] != "Sun":
            parts.append(f"Sun,Mon..{ends[1]}")
        else:
            parts.append("..".join(dict.fromkeys(ends)))
    return ",".join(parts)
