"""Commands that run rounds at set times."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flywheel.cli._shared import HERE, Config, Set, context_of, end_on_sigterm, open_workspace, print_text
from flywheel.core.errors import UserError

_Cron = Annotated[str, typer.Option(help="Minute hour day month weekday; schedule.cron if left out.")]


def start(cron: _Cron = "", config: Config = HERE, set_: Set = None) -> None:
    """Run rounds at their times, in the foreground, until asked to end: for a service manager."""
    from flywheel.rounds.schedule.scheduler import run_schedule
    from flywheel.rounds.schedule.times import Times, zone_of

    workspace = open_workspace(config, set_)
    settings = workspace.config.schedule
    if not (cron or settings.cron):
        raise UserError(
            "schedule: no schedule set. Write schedule.cron into flywheel.yaml, or give --cron '0 2 * * *'."
        )
    times = Times(cron or settings.cron, zone_of(settings.timezone))
    end_on_sigterm()
    run_schedule(context_of(workspace), times)


def write(
    kind: Annotated[str, typer.Argument(help="systemd, crontab, kubernetes, airflow or prefect.")],
    cron: _Cron = "",
    config: Config = HERE,
    set_: Set = None,
) -> None:
    """Print what makes another scheduler run the rounds."""
    from flywheel.rounds.schedule.times import Times, zone_of
    from flywheel.rounds.schedule.units import Plan, unit_file

    workspace = open_workspace(config, set_)
    settings = workspace.config.schedule
    line = cron or settings.cron or "0 2 * * *"
    # Raises for a line that is none.
    Times(line, zone_of(settings.timezone))
    plan = Plan(cron=line, root=workspace.root, python=sys.executable, zone=settings.timezone)
    print_text(unit_file(kind, plan), end="")
