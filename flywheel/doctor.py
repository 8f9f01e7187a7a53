"""What this machine has and lacks for the wheel, with the mend for each lack."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from flywheel.core.config import load_config
from flywheel.core.errors import FlywheelError, UserError

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "av", "polars", "mlflow", "scipy")
_LEAST_FREE_GIB = 5.0


def checks(config: Path | None) -> list[dict[str, Any]]:
    """``{"what", "ok", "needed", "says"}`` per thing looked at; ``needed`` ones fail the command."""
    found = [_library(name, needed=True) for name in _LIBRARIES]
    found.append(
        _library("vllm", needed=False, mend="Optional: pip install 'video-dataflywheel[vllm]' on a GPU machine")
    )
    found.append(_gpu())
    found.append(_encoder())
    root = Path.cwd() if config is None else config if config.is_dir() else config.parent
    free = shutil.disk_usage(root).free / 2**30
    found.append(
        {"what": "disk", "ok": free >= _LEAST_FREE_GIB, "needed": True, "says": f"{free:.0f} GiB free at {root}"
         + ("" if free >= _LEAST_FREE_GIB else f"; free at least {_LEAST_FREE_GIB:.0f} GiB")}
    )  # fmt: skip
    if config is not None:
        found.extend(_workspace(config))
    return found


def _library(name: str, *, needed: bool, mend: str = "pip install -e .") -> dict[str, Any]:
    try:
        ok, says = importlib.util.find_spec(name) is not None, metadata.version(name)
    except metadata.PackageNotFoundError:
        ok, says = False, f"not installed. {mend}"
    return {"what": name, "ok": ok, "needed": needed, "says": says}


def _gpu() -> dict[str, Any]:
    try:
        out = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return {"what": "GPU", "ok": True, "needed": False, "says": "; ".join(out.stdout.strip().splitlines())}
    except (OSError, subprocess.SubprocessError):
        return {
            "what": "GPU",
            "ok": False,
            "needed": False,
            "says": "none found. The tiny model runs without; billions of parameters do not",
        }


def _encoder() -> dict[str, Any]:
    from flywheel.media.encode import missing_encoders

    ok = not missing_encoders()
    return {
        "what": "FFmpeg",
        "ok": ok,
        "needed": True,
        "says": "H.264 and AAC are there" if ok else "PyAV lacks libx264 or AAC. Install PyAV's wheel",
    }


def _workspace(config: Path) -> list[dict[str, Any]]:
    from flywheel.models.load import check_folder, model_folder
    from flywheel.store import Workspace

    found: list[dict[str, Any]] = []

    def tried(what: str, work: Any) -> None:
        try:
            found.append({"what": what, "ok": True, "needed": True, "says": str(work())})
        except FlywheelError as error:
            found.append({"what": what, "ok": False, "needed": True, "says": str(error)})

    try:
        loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config)
    except UserError as error:
        return [{"what": "config", "ok": False, "needed": True, "says": str(error)}]
    root = config if config.is_dir() else config.parent
    folder = model_folder(loaded.corpus.model, root)

    def model() -> Path:
        check_folder(folder)
        return folder

    tried("model", model)
    tried("database", lambda: f"{Workspace.open(config).clips().height} clips")
    tracker = loaded.tracking.uri or f"sqlite in {root}"
    found.append({"what": "tracker", "ok": True, "needed": False, "says": tracker})
    return found
