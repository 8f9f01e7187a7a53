"""Commands about the configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli._shared import HERE, Config, DryRun, Json, Set, config_file, print_json, print_result, print_text
from flywheel.core.progress import say


def template(preset: Annotated[str, typer.Option()] = "playground") -> None:
    """Print a commented config."""
    from flywheel.core.config import template as text_of

    print_text(text_of(preset), end="")


def validate(config: Config = HERE, set_: Set = None) -> None:
    """Check a config and the names in it; exit 2 and one line where it is wrong."""
    from flywheel.core.config import load_config, read_raw
    from flywheel.rounds.names import check_names, loss_of, prompts_of

    file = config_file(config)
    values = load_config(file, set_)
    check_names(values, prompts_of(values, file.parent))
    loss_of(values)
    print_text("valid")
    if not read_raw(file):
        say(f"{file.name} is empty: all values are defaults. 'flywheel config template' prints a file to begin with")


def schema() -> None:
    """Print the config's JSON schema."""
    from flywheel.core.config import Config as Model

    print_json(Model.model_json_schema())


def show(config: Config = HERE, set_: Set = None) -> None:
    """Print the resolved values."""
    import yaml

    from flywheel.core.config import load_config
    from flywheel.core.secrets import without_secrets

    values = load_config(config_file(config), set_).model_dump(mode="json")
    print_text(without_secrets(yaml.safe_dump(values, sort_keys=False)), end="")


def explain(
    key: Annotated[str, typer.Argument(help="A key such as gate.alpha, or a section.")],
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Say what a key means, which values it takes, its default, and its value here."""
    from flywheel.core.config import load_config
    from flywheel.core.config.explain import explain as explained

    file = config_file(config)
    found = explained(key, load_config(file) if file.exists() else None)
    print_result([each.to_json() for each in found], json_, "\n".join(map(str, found)))


def losses() -> None:
    """List the registered losses."""
    from noise_control import losses as registry

    print_text("\n".join(registry.names()))


def migrate(config: Config = HERE, dry_run: DryRun = False) -> None:
    """Rewrite a config of an earlier version: keys move to their new places, comments go along.

    The file as it was stays beside it as .bak; --dry-run prints the difference.
    """
    from flywheel.core.config import MOVED
    from flywheel.core.config.migrate import migrate_file

    migration = migrate_file(config_file(config), MOVED, dry_run=dry_run)
    for note in migration.notes:
        say(note)
    if dry_run:
        print_text(migration.diff, end="")
    elif migration.backup is not None:
        print_text(f"{migration.file} is rewritten; as it was it lies in {migration.backup}")
    else:
        print_text(f"{migration.file}: nothing to move")
