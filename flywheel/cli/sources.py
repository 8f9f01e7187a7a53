"""Commands about sources: the folders that clips come from."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Json,
    Yes,
    agreed,
    confirm,
    open_workspace,
    print_result,
    say_next,
    say_what_comes_next,
)
from flywheel.core.foreign import as_lines

if TYPE_CHECKING:
    from flywheel.rounds.sources import Removal


def list_(
    limit: Annotated[int, typer.Option(min=1, help="Folders to list; of more, those they lie in.")] = 50,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """List the folders that clips come from, with clips, videos and hours, and which were removed."""
    from flywheel.store.sources import sources_of

    found = sources_of(open_workspace(config), limit)
    text = as_lines(map(str, found)) or "no clips"
    print_result({"sources": [source.to_json() for source in found]}, json_, text)
    if found and not json_:
        say_next(f"flywheel clips --source {shlex.quote(found[0].path)}  # its clips", config=config)


def remove(
    paths: Annotated[list[str], typer.Argument(help="Folders or files, as 'flywheel sources list' names them.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let future rounds use them again.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Leave a folder's clips out of all rounds from the next one on. Nothing is deleted.

    A round under way ends as it began. What was learned, exported and said of them stays: 'flywheel takedown'
    removes that.
    """
    from flywheel.rounds.sources import planned, remove_sources

    workspace = open_workspace(config)
    would = "would be used again" if undo else "would be used no more"

    def ask(plan: Removal) -> None:
        confirm("sources remove", plan.to_text(would))

    asks = None if yes or dry_run else ask
    with agreed(workspace.lock, partial(planned, workspace, paths, undo=undo), asks) as plan:
        if not dry_run:
            remove_sources(workspace, plan, reason)
    if dry_run:
        print_result(plan.to_json(), json_, plan.to_text(would))
        words = ["flywheel", "sources", "remove", *paths, "--reason", reason, *(["--undo"] if undo else [])]
        say_next(f"{shlex.join(words)} --yes  # does it", config=config)
        return
    print_result(plan.to_json(), json_, plan.to_text("are used again" if undo else "are used no more"))
    if not json_ and not undo:
        words = ["flywheel", "sources", "remove", *paths, "--reason", "REASON", "--undo"]
        say_next(f"{shlex.join(words)}  # takes them in again", config=config)
    say_what_comes_next(workspace, config, json_)
