"""A schedule as other schedulers want it: systemd timers, crontab lines, Kubernetes CronJobs, Airflow and Prefect files."""

from __future__ import annotations

import shlex
from pathlib import Path

from flywheel.core.errors import UserError

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_NAMES = tuple(day.lower() for day in _DAYS[:7])
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def on_calendar(cron: str, zone: str = "") -> list[str]:
    """A cron line as systemd's ``OnCalendar`` values (systemd.time(7)); two where both the day of the month and of the week are given, since in
    cron either will do. Raises UserError for a line of another form."""
    fields = cron.split()
    if len(fields) != 5:
        raise UserError(f"'{cron}' has {len(fields)} fields, 5 are needed.")
    minute, hour, day, month, weekday = fields
    clock = f"{_numbers(hour, 0)}:{_numbers(minute, 0)}:00"
    month = _numbers(_named(month, _MONTHS, 1), 1)
    tail = f" {zone}" if zone else ""
    by_day = f"*-{month}-{_numbers(day, 1)} {clock}{tail}"
    if weekday == "*":
        return [by_day]
    by_week = f"{_week(weekday)} *-{month}-* {clock}{tail}"
    return [by_week] if day[0] == "*" else [by_day, by_week]


def _named(field: str, names: tuple[str, ...], first: int) -> str:
    for number, name in enumerate(names, first):
        field = field.lower().replace(name, str(number))
    return field


def _numbers(field: str, first: int) -> str:
    parts = []
    for part in field.split(","):
        span, slash, step = part.partition("/")
        span = span.replace("-", "..")
        parts.append((f"{first}/{step}" if span == "*" else f"{span}/{step}") if slash else span)
    return ",".join(parts)


def _week(field: str) -> str:
    parts = []
    for part in _named(field, _DAY_NAMES, 0).split(","):
        if "/" in part:
            raise UserError(f"weekday '{field}': systemd knows no steps of weekdays. List the days.")
        ends = [_DAYS[int(end)] for end in part.split("-")]
        # systemd's week begins with Monday.
        parts.append(
            f"Sun,Mon..{ends[1]}"
            if len(ends) == 2 and ends[0] == "Sun" and ends[1] != "Sun"
            else "..".join(dict.fromkeys(ends))
        )
    return ",".join(parts)


def write(kind: str, cron: str, root: Path, python: str, zone: str = "") -> str:
    """The file, or line, that runs this workspace's rounds. Each run is ``flywheel round``, which goes on where the last one was cut off and is refused
    while another runs. Raises UserError for an unknown kind."""
    command = f"{shlex.quote(python)} -m flywheel.cli round --config {shlex.quote(str(root))}"
    match kind:
        case "systemd":
            calendars = "\n".join(f"OnCalendar={value}" for value in on_calendar(cron, zone))
            return (
                "# ~/.config/systemd/user/flywheel.service\n[Unit]\nDescription=A round of the flywheel\n\n[Service]\nType=oneshot\n"
                f"ExecStart={command}\n# A gate that said no (3) is an outcome, not a failure.\nSuccessExitStatus=3\n\n"
                "# ~/.config/systemd/user/flywheel.timer; then: systemctl --user enable --now flywheel.timer\n[Unit]\nDescription=Rounds of the flywheel\n\n"
                f"[Timer]\n{calendars}\n# What was missed while the machine was off runs once.\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
            )
        case "crontab":
            head = f"CRON_TZ={zone}\n" if zone else ""
            return f"{head}{cron} {command} >> {shlex.quote(str(root / 'rounds.log'))} 2>&1\n"
        case "kubernetes":
            return (
                "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: flywheel\nspec:\n"
                f'  schedule: "{cron}"\n' + (f"  timeZone: {zone}\n" if zone else "")
                + "  concurrencyPolicy: Forbid\n  startingDeadlineSeconds: 86400\n  jobTemplate:\n    spec:\n      backoffLimit: 3\n"
                "      podFailurePolicy:\n        rules:\n          - action: FailJob  # a gate that said no is not tried again\n"
                "            onExitCodes:\n              containerName: round\n              operator: In\n              values: [2, 3]\n"
                "      template:\n        spec:\n          restartPolicy: Never\n          containers:\n            - name: round\n"
                "              image: flywheel:latest  # an image with this package\n"
                "              command: [flywheel, round, --config, /workspace]\n"
                "              volumeMounts:\n                - {name: workspace, mountPath: /workspace}\n"
                "          volumes:\n            - name: workspace\n              persistentVolumeClaim: {claimName: flywheel-workspace}\n"
            )  # fmt: skip
        case "airflow":
            return (
                "from datetime import datetime\n\nfrom airflow import DAG\nfrom airflow.operators.bash import BashOperator\n\n"
                f"with DAG(\n    'flywheel', schedule={cron!r}, start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1,\n):\n"
                "    # Exit 3, a gate that said no, marks the task as skipped.\n"
                f"    BashOperator(task_id='round', bash_command={command!r}, skip_on_exit_code=3)\n"
            )
        case "prefect":
            return (
                "import subprocess\n\nfrom prefect import flow\n\n\n@flow\ndef flywheel_round():\n"
                f"    done = subprocess.run({shlex.split(command)!r})\n"
                "    if done.returncode not in (0, 3):  # 3 is a gate that said no\n"
                "        raise RuntimeError(f'flywheel round ended with {done.returncode}')\n\n\n"
                f"if __name__ == '__main__':\n    flywheel_round.serve(name='flywheel', cron={cron!r})\n"
            )
    raise UserError(
        f"schedule write: '{kind}' is unknown. There are systemd, crontab, kubernetes, airflow and prefect."
    )
