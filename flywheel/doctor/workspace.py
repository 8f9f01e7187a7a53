"""Checks of a workspace: its configuration and prompts, models and servers, database and records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.config import MAIN, Config, load_config
from flywheel.core.errors import FlywheelError, UserError
from flywheel.doctor.check import Check, tried
from flywheel.doctor.machine import library
from flywheel.playground.tiny import BUNDLED

if TYPE_CHECKING:
    from flywheel.store import Workspace

_GIB = 2**30


def workspace(config: Path) -> list[Check]:
    """Checks of the configuration at this path and of what it names."""
    root = root_of(config)
    try:
        loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config)
    except UserError as error:
        return [Check(what="config", ok=False, needed=True, says=str(error))]
    return [
        *_models(loaded, root),
        tried("prompts", lambda: _prompts(loaded, root)),
        *([tried("speech", lambda: _recogniser(loaded, root))] if loaded.transcribe.model else []),
        *_records(config),
        *_schedule(loaded),
        Check(what="tracker", ok=True, needed=False, says=loaded.tracking.uri or f"sqlite in {root}"),
    ]


def root_of(config: Path) -> Path:
    """The workspace's folder that a config, or a folder, names."""
    return config if config.is_dir() else config.parent


def _models(config: Config, root: Path) -> Iterator[Check]:
    """Each model's folder and engine, whether the main one fits, and what the servers say."""
    for role, settings in config.models.items():
        what = "model" if role == MAIN else f"model {role}"
        inputs = ("frames",) if role == MAIN else ()
        folder = tried(what, partial(_folder, settings.folder, root, inputs))
        yield folder
        if settings.engine == "vllm":
            mend = "pip install 'video-dataflywheel[vllm]' on a GPU machine, or set models.main.engine to transformers"
            yield library("vllm", needed=True, mend=mend)
        if settings.engine == "openai":
            yield from (server(url, settings.api_key_env, settings.folder, folder.says) for url in settings.servers)
    if (demo := _toy(config)) is not None:
        yield demo
    if config.main.folder not in BUNDLED and (fits := _fits(config, root)) is not None:
        yield fits


def _folder(name: str, root: Path, inputs: tuple[str, ...]) -> str:
    from flywheel.models.load import check_folder, model_folder

    folder = model_folder(name, root)
    check_folder(folder, inputs)
    return str(folder)


def _toy(config: Config) -> Check | None:
    """A warning of the bundled demo model; None for any other."""
    if config.main.folder not in BUNDLED or config.main.engine == "fake":
        return None
    says = (
        "the bundled one, for the playground's drawn shapes alone: what it writes about other videos means nothing. "
        "For your videos set models.main.folder to a folder or a hub id"
    )
    return Check(what="demo model", ok=False, needed=False, says=says)


def server(url: str, api_key_env: str, name: str, folder: str) -> Check:
    """Whether a server answers, takes the key, and serves the model that is configured."""
    from annotators.served import served

    try:
        names = served(url, api_key_env)
    except FlywheelError as error:
        return Check(what="server", ok=False, needed=True, says=str(error))
    ok = bool({name, folder} & set(names))
    serves = ", ".join(names) or "no model"
    wrong = f", not {name}. Set models.main.folder to what it serves, or start it with the model's folder"
    return Check(what="server", ok=ok, needed=True, says=f"{url} serves {serves}{'' if ok else wrong}")


def _fits(config: Config, root: Path) -> Check | None:
    """Whether the model fits this machine: by the plan on a GPU, by its weights' size on a CPU; None for no model."""
    try:
        folder = Path(_folder(config.main.folder, root, ("frames",)))
    except FlywheelError:
        return None
    weights_gib = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / _GIB
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        # Of bf16 weights: in fp32 twice as much, with gradients and two moments four times that.
        needs = 8 * weights_gib
        amount = f"some {needs:.0f}" if needs >= 1 else "under 1"
        says = f"training takes {amount} GiB without a GPU, this machine has {memory_gib:.0f}"
        mend = "" if needs < memory_gib else ". Take a GPU, a smaller model, or pretrain.num_steps: 0"
        return Check(what="memory", ok=needs < memory_gib, needed=False, says=says + mend)
    from flywheel.rounds.memory_plan import planned

    plan = planned(config, root)
    return None if plan is None else Check(what="memory", ok=plan.fits, needed=False, says=plan.in_short())


def _prompts(config: Config, root: Path) -> str:
    from flywheel.rounds.names import check_names, prompts_of

    prompts = prompts_of(config, root)
    check_names(config, prompts)
    return ", ".join(f"{prompt.name} ({prompt.kind})" for prompt in prompts)


def _recogniser(config: Config, root: Path) -> str:
    from flywheel.ingest.speech.folder import recogniser_folder

    return str(recogniser_folder(config.transcribe.model, root))


def _schedule(config: Config) -> Iterator[Check]:
    if config.schedule.cron:
        yield tried("schedule", lambda: _times(config))


def _times(config: Config) -> str:
    from datetime import UTC, datetime

    from flywheel.rounds.schedule.times import Times, zone_of

    plan = config.schedule
    following = Times(plan.cron, zone_of(plan.timezone)).after(datetime.now(UTC))
    return f"'{plan.cron}', next {following.isoformat() if following else 'never'}"


def _folder_of(workspace: Workspace) -> Check:
    """Whether the workspace's folder and database can be written to."""
    why = workspace.database.read_only
    if not why and not os.access(workspace.root, os.W_OK):
        why = f"{workspace.root}: can only be read. Make it writable, and run the same command."
    return Check(what="folder", ok=not why, needed=True, says=why or f"{workspace.root} can be written to")


def _records(config: Path) -> list[Check]:
    """Checks of the database, and of every shard of records beside it."""
    from flywheel.rounds.outlook import impossible
    from flywheel.store import Workspace
    from flywheel.store.health import given_up, health_of, lost_in

    try:
        workspace = Workspace.open(config)
    except FlywheelError as error:
        return [Check(what="database", ok=False, needed=True, says=str(error))]
    try:
        folder = _folder_of(workspace)
        database = tried("database", lambda: f"{workspace.count('clips')} clips")
        health = health_of(workspace)
        says = "; ".join(fault.says for fault in health.faults) or f"{health.shards} shards, as they were written"
        checks = [folder, database, Check(what="records", ok=not health.faults, needed=True, says=says)]
        if not health.faults:
            checks += [Check(what="corpus", ok=False, needed=False, says=line) for line in impossible(workspace)]
        if (leak := workspace.videos.leak()) is not None:
            checks.append(Check(what="split", ok=False, needed=False, says=str(leak)))
        if aside := "; ".join(lost_in(workspace.root)):
            mend = "Killed commands leave such; 'flywheel doctor --repair' takes in what is on record nowhere else"
            checks.append(Check(what="lost", ok=True, needed=False, says=f"{aside}. {mend}"))
        if gone := "; ".join(given_up(workspace)):
            checks.append(Check(what="given up", ok=True, needed=False, says=gone))
        return checks
    except FlywheelError as error:
        return [Check(what="database", ok=False, needed=True, says=str(error))]
    finally:
        workspace.database.close()
