"""Where the files of indexes of vectors lie, and that they can be removed at any time."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def folder_of(root: Path) -> Path:
    """Where the files of all indexes of a workspace lie."""
    return root / "cache" / "vectors"


def forget_files(root: Path) -> None:
    """Remove the files of all indexes: what a clip left in them goes, and they are made again when they are needed."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder_of(root))
