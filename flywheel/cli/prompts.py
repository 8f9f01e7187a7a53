"""Commands about prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli._shared import HERE, Config, Json, Set, config_file, open_context, print_result, print_text, say_next
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say

Name = Annotated[str, typer.Argument(help="Name of a bundled prompt, or a prompt file.")]


def list_(config: Config = HERE, json_: Json = False) -> None:
    """List the prompts that there are, and what each asks."""
    from flywheel.prompts import listed

    lines = list(listed(config_file(config).parent))
    print_result([line.to_json() for line in lines], json_, as_lines(map(str, lines)))


def show(name: Name, config: Config = HERE) -> None:
    """Print a prompt file."""
    from flywheel.prompts import found

    print_text(found(name, config_file(config).parent).read_text(encoding="utf-8"), end="")


def copy(
    name: Name,
    to: Annotated[Path, typer.Argument(help="A new file, such as my-caption.yaml.")],
    config: Config = HERE,
) -> None:
    """Copy a prompt to a file of your own, to be changed."""
    from flywheel.prompts import copied

    print_text(str(copied(name, to, config_file(config).parent)))
    say_next(f"edit {to}, then name it: annotate.prompt: {to}")


def try_(
    name: Name,
    clips: Annotated[int, typer.Option("--clips", min=1, max=50, help="How many clips to try it on.")] = 3,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Ask the model about a few clips by a prompt, and keep nothing."""
    from flywheel.prompts import tried
    from flywheel.rounds.toy import toy_notice

    context = open_context(config, set_)
    if notice := toy_notice(context.workspace):
        say(notice)
    replies = list(tried(context, name, clips))
    print_result([reply.to_json() for reply in replies], json_, "\n".join(map(str, replies)))
    say_next(f"flywheel annotate --set annotate.prompt={name}  # or name it in flywheel.yaml", config=config)
