"""Merged weights' own record: of which model and adapter they were made, so that they are known by their content."""

from __future__ import annotations

import json
from pathlib import Path

from flywheel.models.load import folder_digest

_FILE = "merged.json"


def note_origin(folder: Path, model: str, adapter: Path) -> None:
    """Note beside merged weights the digest of the model and of the adapter that they are made of, and their own."""
    record = {"model": model, "adapter": folder_digest(adapter), "weights": folder_digest(folder)}
    (folder / _FILE).write_text(json.dumps(record))


def is_made_of(folder: Path | None, model: Path, adapter: Path | None) -> bool:
    """Whether a folder holds, unchanged, the weights that were merged from this model and this adapter."""
    if folder is None or adapter is None or not (folder / _FILE).is_file():
        return False
    try:
        record = json.loads((folder / _FILE).read_text())
    except ValueError:
        return False
    wanted = {"model": folder_digest(model), "adapter": folder_digest(adapter), "weights": folder_digest(folder)}
    return bool(record == wanted)
