"""Checks of the machine: libraries, GPU, FFmpeg, disk."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from flywheel.doctor.check import Check

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "av", "polars", "mlflow", "scipy")
_LEAST_FREE_GIB = 5.0
#: What a driver puts there: NVIDIA's and AMD's.
_DEVICES = ("/dev/nvidiactl", "/dev/kfd")


def machine(root: Path) -> list[Check]:
    """A check of each library, the GPU, FFmpeg and the disk."""
    vllm = library("vllm", needed=False, mend="Optional: pip install 'video-dataflywheel[vllm]' on a GPU machine")
    needed = [library(name, needed=True) for name in _LIBRARIES]
    return [*needed, vllm, _gpu(), _encoder(), _disk(root)]


def library(name: str, *, needed: bool, mend: str = "pip install -e .") -> Check:
    """Whether a library is installed, and its version."""
    try:
        ok, says = importlib.util.find_spec(name) is not None, metadata.version(name)
    except metadata.PackageNotFoundError:
        ok, says = False, f"not installed. {mend}"
    return Check(what=name, ok=ok, needed=needed, says=says)


def _gpu() -> Check:
    """What torch sees: it is what trains. torch is imported only where there is something to see."""
    driver = _drivers_gpus()
    if not driver and not any(Path(device).exists() for device in _DEVICES) and sys.platform != "darwin":
        says = "none found. The bundled demo model runs on the CPU; real models (2B and more) need one"
        return Check(what="GPU", ok=False, needed=False, says=says)
    import torch

    if torch.cuda.is_available():
        seen = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        says = "; ".join(f"{each.name}, {each.total_memory / 2**30:.0f} GiB" for each in seen)
        return Check(what="GPU", ok=True, needed=False, says=f"{says} (as torch {torch.__version__} sees them)")
    why = (
        "this torch was built without CUDA. Install it anew, without the index of CPU wheels"
        if torch.version.cuda is None
        else f"torch was built for CUDA {torch.version.cuda}. Is the driver too old, or CUDA_VISIBLE_DEVICES empty?"
    )
    says = f"{driver or 'a device is there'}, but torch {torch.__version__} sees none: {why}"
    return Check(what="GPU", ok=False, needed=False, says=says)


def _drivers_gpus() -> str:
    """Names and memory of GPUs as NVIDIA's driver tells; empty where it tells none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(out.stdout.strip().splitlines())


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
