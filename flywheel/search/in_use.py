"""The encoder that a workspace is searched by."""

from __future__ import annotations

from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.store import Workspace
from flywheel.store.vectors_in_use import ENCODER


def encoder_folder(workspace: Workspace) -> Path:
    """Where the encoder in use lies. Raises UserError where there is none yet."""
    if workspace.config.index.folder:
        return workspace.root / workspace.config.index.folder
    name = workspace.meta(ENCODER)
    if name is None:
        raise UserError(f"{workspace.root}: has no index yet. Make one with 'flywheel index'.")
    return named_folder(workspace, name)


def named_folder(workspace: Workspace, name: str) -> Path:
    """Where a workspace's own encoder of this id lies."""
    return workspace.root / "models" / f"encoder-{name}"
