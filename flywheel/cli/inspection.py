"""Commands that show where things stand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    Json,
    Set,
    context_of,
    open_workspace,
    print_result,
    print_text,
    say_what_comes_next,
)
from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say


def doctor(
    config: Config = HERE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make the database again from the records, as far as they tell.")
    ] = False,
    give_up: Annotated[
        list[str] | None, typer.Option("--give-up", help="A damaged shard to go on without. May be repeated.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="What training and engine will take of the device's memory.")
    ] = False,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", min=0.01, help="Plan for a device with this memory, GiB.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Plan for this many GPUs.")] = None,
    json_: Json = False,
) -> None:
    """Check GPU, libraries, database, records, tracker and disk: what is missing or damaged, and how to fix it."""
    from flywheel import doctor as work

    if plan or gpu_memory is not None or gpus is not None:
        planned = work.plan(config, gpu_memory, gpus)
        print_result(planned.to_json(), json_, str(planned))
        if not planned.fits:
            raise typer.Exit(1)
        return
    if repair or give_up:
        lines = work.repair(config) if repair else []
        lines += work.give_up(config, give_up) if give_up else []
        print_result(lines, json_, as_lines(lines))
        return
    results = work.checks(config if config.exists() else None)
    print_result([check.to_json() for check in results], json_, as_lines(map(str, results)))
    if any(check.needed and not check.ok for check in results):
        raise typer.Exit(1)
    if config.exists():
        say_what_comes_next(open_workspace(config), config, json_, told=True)


def status(config: Config = HERE, set_: Set = None, json_: Json = False) -> None:
    """Where the workspace stands."""
    from flywheel.status import status_of

    result = status_of(open_workspace(config, set_))
    print_result(result.to_json(), json_, str(result))


def show(
    clip: Annotated[str, typer.Argument(help="Id of a clip, or its first digits.")],
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """A clip's texts round by round: who or what made each."""
    from flywheel.status import history_of

    workspace = open_workspace(config)
    history = history_of(workspace, clip)
    print_result(history.to_json(), json_, str(history))
    if not history.texts:
        say_what_comes_next(workspace, config, json_, told=True)


def report(
    round: Annotated[int | None, typer.Argument(help="A round; the last one that has figures if left out.")] = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Write the round's report page and print where it is."""
    from flywheel.rounds.figures import plugins
    from flywheel.rounds.publish import reports_until
    from flywheel.rounds.report import write_report

    workspace = open_workspace(config)
    context = context_of(workspace)
    # A broken figure is said before a file is written.
    plugins()
    rounds = workspace.rounds()
    if round is not None and round not in rounds:
        raise UserError(f"report: round {round} never began. There are {', '.join(map(str, rounds)) or 'none'}.")
    last = round if round is not None else (rounds[-1] if rounds else 0)
    reports = reports_until(context, last)
    try:
        folder = write_report(context, reports)
    except OSError as error:
        # What can only be read, and a full disk, can still be looked at.
        folder = write_report(context, reports, Path(tempfile.mkdtemp(prefix=f"flywheel-report-{last}-")))
        say(f"report: {workspace.root} can't be written ({error.strerror}); the report lies in {folder}")
    print_result(reports[-1].to_json(), json_, str(folder / "report.html"))
    say_what_comes_next(workspace, config, json_, told=True)


def dashboard(
    config: Config = HERE,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """MLflow's own pages on the workspace's tracking store."""
    from flywheel.store.dashboard import open_dashboard

    for address in open_dashboard(open_workspace(config), host, port):
        print_text(address)
