"""Videos out of containers: put into the workspace's ``media/`` folder under their content's hash."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import IO

from flywheel.formats import timed_text
from flywheel.ingest.items import VIDEO_SUFFIXES

_CHUNK = 1 << 20
#: Hexadecimal digits of a content's hash in its file's name.
_DIGITS = 32


def keep(content: IO[bytes], suffix: str, media_folder: Path) -> tuple[Path, bool]:
    """Put content into the folder under its hash; returns where it is, and whether it is new there."""
    media_folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    # A name that tells what a killed process left.
    temporary = media_folder / f".tmp.{uuid.uuid4().hex[:8]}.part"
    try:
        with open(temporary, "xb") as file:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            size = file.tell()
            path = media_folder / f"{digest.hexdigest()[:_DIGITS]}{suffix}"
            is_new = not path.exists()
            # One of another size was cut off when the machine was.
            if is_new or path.stat().st_size != size:
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path, is_new


def kept(content_hash: str, media_folder: Path) -> list[Path]:
    """Where a content that came out of a container may lie, and the words beside it."""
    return [media_folder / f"{content_hash[:_DIGITS]}{ending}" for ending in (*VIDEO_SUFFIXES, *timed_text.endings())]
