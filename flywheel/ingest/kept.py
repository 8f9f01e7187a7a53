"""Videos out of containers: put into the workspace's ``media/`` folder under their content's hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20


def keep(content: IO[bytes], suffix: str, media_folder: Path) -> tuple[Path, bool]:
    """Put content into the folder under its hash; returns where it is, and whether it is new there."""
    media_folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=media_folder)
    try:
        with open(descriptor, "wb") as file:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        path = media_folder / f"{digest.hexdigest()[:32]}{suffix}"
        is_new = not path.exists()
        if is_new:
            os.chmod(name, 0o644)
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path, is_new
