"""Decode once: frames by content hash, span, sampling and size. Capped in size, safe to delete at any time."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import content_id
from flywheel.store.media import read_frames

_TRIM_TO = 0.9
_TRIM_EVERY = 256


class FrameCache:
    """Frames on disk, one file per (content, times, size); the least recently used go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.hits = 0
        self.decodes = 0
        self._written = 0

    def frames(self, path: Path, content_hash: str, times_s: Sequence[float], max_side: int) -> NDArray[np.uint8]:
        """``(T, H, W, 3)`` uint8 RGB. Raises MediaError as :func:`read_frames` does."""
        key = content_id(content_hash, [round(t, 6) for t in times_s], max_side)
        file = self.folder / key[:2] / f"{key}.npy"
        try:
            frames: NDArray[np.uint8] = np.load(file, allow_pickle=False)
            os.utime(file)
            self.hits += 1
            return frames
        except FileNotFoundError:
            pass
        except (ValueError, OSError, EOFError):
            # A damaged entry is no reason to fail: what it held can be decoded again.
            with contextlib.suppress(OSError):
                file.unlink()
        frames = read_frames(path, times_s, max_side=max_side)
        self.decodes += 1
        self._store(file, frames)
        return frames

    def _store(self, file: Path, frames: NDArray[np.uint8]) -> None:
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as out:
                np.save(out, frames, allow_pickle=False)
            os.replace(temporary, file)
        except OSError:
            # A full disk costs speed, not the run: the cache is only a cache.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        self._written += 1
        if self._written % _TRIM_EVERY == 0:
            self.trim()

    def trim(self) -> None:
        """Bring the cache under its cap."""
        entries = []
        for path in self.folder.rglob("*.npy"):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(entries):
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
            if total <= _TRIM_TO * self.max_bytes:
                return
