"""Commands with which a workspace begins: its configuration and its model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Set,
    Yes,
    check_database,
    config_file,
    confirm,
    offline_by_wish,
    print_text,
    say_next,
)
from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.rounds.presets import Fit

Changes = dict[str, Any]
_GIB = 2**30


def init(
    folder: Annotated[Path, typer.Argument(help="Where it will be: a folder, or s3://BUCKET/PREFIX.")] = Path("."),
    preset: Annotated[
        str,
        typer.Option(
            help="playground (the bundled demo model, offline), a model such as qwen3-vl-2b or smolvlm2, or server."
        ),
    ] = "playground",
    model: Annotated[str, typer.Option(help="Folder or hub id (org/name) of the model, for models.main.folder.")] = "",
    url: Annotated[
        list[str] | None, typer.Option("--url", help="A server that runs the model; may be repeated.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", metavar="NAME", help="Variable of the environment with the servers' key.")
    ] = "",
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="Number of GPUs that the settings are to fit.")
    ] = None,
    gpu_memory: Annotated[
        list[float] | None,
        typer.Option("--gpu-memory", min=1.0, help="GiB of each GPU; may be repeated, the least counts."),
    ] = None,
    database: Annotated[
        str, typer.Option(help="PostgreSQL's URL, for store.database; a workspace on an object store needs one.")
    ] = "",
) -> None:
    """Write a short, commented flywheel.yaml and say what comes next."""
    from flywheel.core.config import parse_config, short_template
    from flywheel.core.config.presets import PRESETS, preset_file
    from flywheel.core.config.template import merged
    from flywheel.playground.tiny import BUNDLED
    from flywheel.store import Workspace
    from flywheel.store.objects import url_of

    preset_file(preset)
    fit = None if gpus is None and gpu_memory is None else _fit(preset, gpus, gpu_memory or [])
    servers = _servers(preset, url or [], api_key_env, model)
    changes = merged(fit.changes if fit is not None else {}, servers)
    if model:
        changes = merged(changes, {"models": {"main": {"folder": model}}})
    address = url_of(folder)
    if address is not None:
        check_database(address, database)
    if database:
        changes = merged(changes, {"store": {"database": database}})
    text = short_template(preset, changes, fit.notes() if fit is not None else ())
    print_text(str(Workspace.create(folder, text)))
    main = parse_config(merged(PRESETS[preset], changes)).main
    if main.folder in BUNDLED and main.engine == "transformers":
        from flywheel.playground.drawn import TOY_NOTICE

        say(f"init: {TOY_NOTICE}")
    if address is not None:
        say_next("flywheel doctor", "flywheel ingest /path/to/videos", config=address)
    else:
        say_next(*_first_commands(folder, main.folder))


def _first_commands(folder: Path, model: str) -> list[str]:
    """The three commands that come after init."""
    from flywheel.models.hub import downloaded, is_hub_id

    here = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    fetched = is_hub_id(model) and not (folder / model).exists() and downloaded(model) is None
    get = ["flywheel download  # fetches the model, after a question"] if fetched else ["flywheel doctor"]
    return [*here, *get, "flywheel ingest /path/to/videos", "flywheel round --until annotate"]


def _fit(preset: str, gpus: int | None, gpu_memory: list[float]) -> Fit:
    """What of the preset fits these GPUs; said line by line."""
    from flywheel.rounds.presets import fitting

    if not gpu_memory:
        raise UserError("--gpus: also say --gpu-memory GIB, the memory of each.")
    if gpus is not None and len(gpu_memory) not in (1, gpus):
        raise UserError(f"--gpu-memory: {len(gpu_memory)} values for {gpus} GPUs. Give one, or one for each.")
    if len(set(gpu_memory)) > 1:
        say(f"init: GPUs of unequal memory get the same share each: the smallest, {min(gpu_memory):g} GiB, counts.")
    fit = fitting(preset, gpus or len(gpu_memory), min(gpu_memory))
    for note in fit.notes():
        say(f"init: {note}")
    return fit


def _servers(preset: str, urls: list[str], api_key_env: str, model: str) -> Changes:
    """What servers change in the configuration; the model that they serve, where nothing else names one."""
    if not urls:
        if preset == "server":
            raise UserError("--preset server: also say --url http://host:8000, the server's address.")
        if api_key_env:
            raise UserError("--api-key-env: is the variable of a server's key. Say --url too.")
        return {}
    from annotators.served import check_addresses

    check_addresses(urls, api_key_env)
    main: Changes = {"engine": "openai", "servers": urls, "api_key_env": api_key_env}
    if preset in ("server", "playground") and not model:
        main["folder"] = _served_model(urls[0], api_key_env)
    return {"models": {"main": main}}


def _served_model(url: str, api_key_env: str) -> str:
    """The model that a server says it serves; a name to fill in, after a line of why, where it can't be asked."""
    from annotators.served import served

    try:
        if found := served(url, api_key_env):
            return found[0]
        why = f"{url}: serves no model."
    except FlywheelError as error:
        why = str(error)
    say(f"init: {why} Write the model that it serves, a folder or hub id, into models.main.folder.")
    return "name-of-the-model"


def download(
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = HERE,
    set_: Set = None,
) -> None:
    """Fetch the models that the configuration names by hub id (org/name); asks first, --yes does not."""
    from flywheel.core.config import load_config
    from flywheel.models.hub import by_hand, bytes_to_fetch
    from flywheel.models.hub import download as fetch

    file = config_file(config)
    missing = _missing({role: m.folder for role, m in load_config(file, set_).models.items()}, file.parent)
    if not missing:
        print_text("all models that the configuration names are here")
        say_next("flywheel doctor", "flywheel ingest /path/to/videos")
        return
    names = ", ".join(missing)
    if offline_by_wish():
        raise UserError(
            "download: HF_HUB_OFFLINE is set, so nothing is fetched. Unset it, or on a machine with a network: "
            f"{by_hand(missing[0])}."
        )
    sizes = {name: bytes_to_fetch(name) for name in missing}
    asked = "\n".join(f"{name}: {size / _GIB:.1f} GiB to fetch" for name, size in sizes.items())
    if dry_run:
        print_text(asked)
        return
    if not yes:
        confirm("download", asked)
    for name in missing:
        print_text(f"{name}: {fetch(name)}")
    say(f"download: {names} done")
    say_next("flywheel doctor", "flywheel ingest /path/to/videos", "flywheel round --until annotate")


def _missing(folders: Mapping[str, str], root: Path) -> list[str]:
    """The hub ids among these models whose files are not on this machine."""
    from flywheel.models.hub import NOT_HERE
    from flywheel.models.load import model_folder

    out = []
    for name in dict.fromkeys(folders.values()):
        try:
            model_folder(name, root)
        except UserError as error:
            if error.code != NOT_HERE:
                raise
            out.append(name)
    return out
