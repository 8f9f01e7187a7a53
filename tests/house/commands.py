"""Reads commands of pages and files as the command line does, without running them."""

from __future__ import annotations

from functools import cache
from typing import Any

from typer.main import get_command

from flywheel.cli import app


@cache
def _whole() -> Any:
    return get_command(app)


def parse(words: list[str]) -> None:
    """Read ``flywheel …`` and run nothing. Raises ClickException, or KeyError for a command that there is not."""
    command, name, rest = _whole(), words[0], list(words[1:])
    context = command.make_context(name, list(rest), resilient_parsing=True)
    while hasattr(command, "commands"):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest, parent=context)
