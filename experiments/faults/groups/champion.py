"""The champion's weights gone or damaged: no text is written by something else in its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.store import Workspace


def faults(bed: Bed) -> Iterator[Fault]:
    """What may become of a folder of weights."""
    harms: dict[str, Callable[[Path], object]] = {
        "folder gone": shutil.rmtree,
        "folder empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        "a byte of the weights changed": _change,
        "weights cut": lambda folder: os.truncate(_weights(folder), 1000),
        "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    }
    for name, harm in harms.items():
        yield Fault("champion's weights", name, partial(_try, bed, harm))


def _weights(folder: Path) -> Path:
    return max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_size)


def _change(folder: Path) -> None:
    content = bytearray(_weights(folder).read_bytes())
    content[-1000] ^= 64
    _weights(folder).write_bytes(content)


def _try(bed: Bed, harm: Callable[[Path], object]) -> str:
    root = bed.copy("trained")
    (folder,) = {path.parent for path in (root / "models").rglob("model.safetensors")}
    harm(folder)
    # The folder's hash is what a text is keyed by: read again for what it is now.
    outcome = run("annotate", "--config", root, "--set", "models.main.engine=transformers")
    if not outcome.clean or not outcome.code:
        return f"exit {outcome.code}: {outcome.last()}"
    workspace = Workspace.open(root)
    try:
        written = workspace.count_texts(2)
    finally:
        workspace.database.close()
    return f"{written} texts in its name" if written else "; ".join(problems(root))
