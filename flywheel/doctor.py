"""Checks what this machine has and lacks for the wheel, with the mend for each lack."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.config import Config, load_config
from flywheel.core.errors import FlywheelError, UserError

if TYPE_CHECKING:
    from flywheel.rounds.memory_plan import Plan

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "av", "polars", "mlflow", "scipy")
_LEAST_FREE_GIB = 5.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at; the command fails where it is needed and not ok."""

    what: str
    ok: bool
    needed: bool
    says: str

    def to_json(self) -> dict[str, Any]:
        """``{"what", "ok", "needed", "says"}``."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'MISS'} {self.what}: {self.says}"


def checks(config: Path | None) -> list[Check]:
    """A check of each library, the GPU, FFmpeg and the disk; with a config of its model, database and tracker too."""
    root = Path.cwd() if config is None else _root_of(config)
    vllm = _library("vllm", needed=False, mend="Optional: pip install 'video-dataflywheel[vllm]' on a GPU machine")
    machine = [*(_library(name, needed=True) for name in _LIBRARIES), vllm, _gpu(), _encoder(), _disk(root)]
    return machine if config is None else [*machine, *_workspace(config)]


def plan(config: Path, device_gib: float | None = None, devices: int | None = None) -> Plan:
    """What training and engine will take of this machine's devices, or of ``devices`` with ``device_gib`` each.

    Raises UserError.
    """
    from flywheel.rounds.memory_plan import plan_of

    loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config)
    return plan_of(loaded, _root_of(config), device_gib, devices)


def _root_of(config: Path) -> Path:
    return config if config.is_dir() else config.parent


def _library(name: str, *, needed: bool, mend: str = "pip install -e .") -> Check:
    try:
        ok, says = importlib.util.find_spec(name) is not None, metadata.version(name)
    except metadata.PackageNotFoundError:
        ok, says = False, f"not installed. {mend}"
    return Check(what=name, ok=ok, needed=needed, says=says)


def _gpu() -> Check:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        says = "none found. The tiny model runs without; billions of parameters do not"
        return Check(what="GPU", ok=False, needed=False, says=says)
    return Check(what="GPU", ok=True, needed=False, says="; ".join(out.stdout.strip().splitlines()))


def _encoder() -> Check:
    from flywheel.media.encode import missing_encoders

    ok = not missing_encoders()
    says = "H.264 and AAC are there" if ok else "PyAV lacks libx264 or AAC. Install PyAV's wheel"
    return Check(what="FFmpeg", ok=ok, needed=True, says=says)


def _disk(root: Path) -> Check:
    free_gib = shutil.disk_usage(root).free / 2**30
    ok = free_gib >= _LEAST_FREE_GIB
    mend = "" if ok else f"; free at least {_LEAST_FREE_GIB:.0f} GiB"
    return Check(what="disk", ok=ok, needed=True, says=f"{free_gib:.0f} GiB free at {root}{mend}")


def _workspace(config: Path) -> list[Check]:
    root = _root_of(config)
    try:
        loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config)
    except UserError as error:
        return [Check(what="config", ok=False, needed=True, says=str(error))]
    tracker = Check(what="tracker", ok=True, needed=False, says=loaded.tracking.uri or f"sqlite in {root}")
    return [
        _tried("model", lambda: _model(loaded, root)),
        *([_tried("speech", lambda: _recogniser(loaded, root))] if loaded.transcribe.model else []),
        *_records(config),
        tracker,
    ]


def _tried(what: str, work: Callable[[], str]) -> Check:
    try:
        return Check(what=what, ok=True, needed=True, says=work())
    except FlywheelError as error:
        return Check(what=what, ok=False, needed=True, says=str(error))


def _model(config: Config, root: Path) -> str:
    from flywheel.models.load import check_folder, model_folder

    folder = model_folder(config.main.folder, root)
    check_folder(folder)
    return str(folder)


def _recogniser(config: Config, root: Path) -> str:
    from flywheel.ingest.speech.folder import recogniser_folder

    return str(recogniser_folder(config.transcribe.model, root))


def _records(config: Path) -> list[Check]:
    """Checks of the database, and of every shard of records beside it."""
    from flywheel.store import Workspace
    from flywheel.store.health import given_up, health_of, lost_in

    try:
        workspace = Workspace.open(config)
    except FlywheelError as error:
        return [Check(what="database", ok=False, needed=True, says=str(error))]
    try:
        database = _tried("database", lambda: f"{workspace.count('clips')} clips")
        health = health_of(workspace)
        says = "; ".join(fault.says for fault in health.faults) or f"{health.shards} shards, as they were written"
        checks = [database, Check(what="records", ok=not health.faults, needed=True, says=says)]
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


def repair(config: Path) -> list[str]:
    """Bring the database to what the records say; returns what was done, in lines."""
    from flywheel.store.repair import repair_database

    return repair_database(config).lines


def give_up(config: Path, names: Sequence[str]) -> list[str]:
    """Go on without the rows of these damaged shards; returns a line for each.

    Raises UserError for one that is none, or whole.
    """
    from flywheel.store import Workspace
    from flywheel.store.health import give_up

    workspace = Workspace.open(config)
    try:
        with workspace.lock(tidy=False):
            shards = [give_up(workspace, name) for name in names]
    finally:
        workspace.database.close()
    again = "Run the command that made them again"
    return [
        f"{s.name}: given up, {s.num_rows} {s.kind}; what is left of it is in lost/damaged/. {again}." for s in shards
    ]
