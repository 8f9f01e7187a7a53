"""Keeps decoded frames and sound by content hash, span, sampling and size. Capped, and safe to delete at any time."""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
import time
import tokenize
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import content_id
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames

#: A trim goes down to this share of the cap, so that the next one is far.
_TRIM_TO = 0.9
#: Writes after which the folder is looked at for the first time: small jobs need not look at all.
_FIRST_LOOK = 256
#: What was written by halves and not touched for so many seconds is nobody's any more.
_HALF_LIVES_S = 86_400.0
#: After this share of the cap was written it is looked at again: other processes write as well.
_LOOK_SHARE = 0.1


def _read(file: str) -> NDArray[np.uint8]:
    """The uint8 array of an ``.npy`` file as ``np.save`` writes it. Raises ValueError where the file is damaged.

    Headers are all but alike, and ``np.load`` parses each as Python source, which takes longer than the reading.
    """
    with open(file, "rb", buffering=0) as source:
        start = source.read(128)
        length = int.from_bytes(start[8:10], "little") + 10
        if start[:8] != b"\x93NUMPY\x01\x00" or length > len(start):
            raise ValueError(f"{file}: not a frame file")
        shape = _shape(start[:length])
        if os.fstat(source.fileno()).st_size != length + math.prod(shape):
            # Told before memory is made for it: a damaged shape may be any.
            raise ValueError(f"{file}: is no longer of its size")
        frames = np.empty(shape, np.uint8)
        rest = start[length:]
        view = frames.reshape(-1).data
        view[: len(rest)] = rest
        at = len(rest)
        while at < len(view):
            read = source.readinto(view[at:])
            if not read:
                raise ValueError(f"{file}: ends early")
            at += read
    return frames


@lru_cache(maxsize=64)
def _shape(start: bytes) -> tuple[int, ...]:
    header = io.BytesIO(start[8:])
    try:
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(header)  # type: ignore[no-untyped-call]
    except (tokenize.TokenError, SyntaxError, MemoryError, RecursionError) as error:
        # NumPy reads it as Python source, and Python's own errors come through.
        raise ValueError("not a frame file's header") from error
    if by_column or dtype != np.uint8:
        raise ValueError("not frames")
    return tuple(shape)


class FrameCache:
    """Frames on disk, one file per (content, times, size); above ``max_bytes`` the least recently used go.

    ``check`` is asked before and after a file is read whether it holds the content of this hash, and raises MediaError
    where it does not: what another video showed is not kept, nor given.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, check: Callable[[str | Path, str], None] = lambda path, content: None
    ) -> None:
        self.folder = folder
        self._check = check
        self.max_bytes = max_bytes
        self.hits = 0
        self.decodes = 0
        self._lock = threading.Lock()
        #: Files and bytes written since the folder was last looked at, and after how many bytes it is looked at again.
        self._files, self._bytes = 0, 0
        self._room: float | None = None

    def frames(self, path: str | Path, content_hash: str, times_s: Sequence[float], max_side: int) -> NDArray[np.uint8]:
        """``(T, H, W, 3)`` uint8 RGB. Raises MediaError as :func:`read_frames` does."""
        key = content_id(content_hash, [round(t, 6) for t in times_s], max_side)
        # Strings: building a Path takes as long as reading a small file.
        file = os.path.join(self.folder, key[:2], f"{key}.npy")
        try:
            frames = _read(file)
            os.utime(file)
            self.hits += 1
            return frames
        except FileNotFoundError:
            pass
        except (ValueError, OSError):
            # A damaged entry is no reason to fail: what it held can be decoded again.
            with contextlib.suppress(OSError):
                os.unlink(file)
        self._check(path, content_hash)
        frames = read_frames(Path(path), times_s, max_side=max_side)
        self._check(path, content_hash)
        self.decodes += 1
        self._store(Path(file), frames)
        return frames

    def sound(
        self, path: str | Path, content_hash: str, start_s: float, end_s: float, rate_hz: int = 16_000
    ) -> NDArray[np.float32]:
        """Mono samples in [-1, 1] of the span, kept with 16 bits. Raises MediaError as :func:`read_audio` does."""
        key = content_id(content_hash, "sound", round(start_s, 6), round(end_s, 6), rate_hz)
        file = os.path.join(self.folder, key[:2], f"{key}.npy")
        try:
            kept = _read(file)
            os.utime(file)
            self.hits += 1
        except (ValueError, OSError):
            self._check(path, content_hash)
            samples = read_audio(Path(path), start_s, end_s, rate_hz=rate_hz).clip(-1, 1) * 32767
            self._check(path, content_hash)
            self.decodes += 1
            kept = np.rint(samples).astype(np.int16).view(np.uint8)
            self._store(Path(file), kept)
        return kept.view(np.int16).astype(np.float32) / np.float32(32767)

    def array(self, key: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """What ``make`` makes, an array with two axes, kept in single precision by a key that decides all of it."""
        file = os.path.join(self.folder, key[:2], f"{key}.npy")
        try:
            kept = _read(file)
            if kept.ndim != 2 or kept.shape[1] % 4:
                raise ValueError(f"{file}: holds something else")
            os.utime(file)
            self.hits += 1
        except (ValueError, OSError):
            kept = np.ascontiguousarray(make(), "<f4").view(np.uint8)
            self._store(Path(file), kept)
        return kept.view("<f4")

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
        self._count(frames.nbytes)

    def _count(self, written: int) -> None:
        """Adds to the running size; looks at the folder where the cap may be passed."""
        with self._lock:
            self._files, self._bytes = self._files + 1, self._bytes + written
            most = _LOOK_SHARE * self.max_bytes if self._room is None else self._room
            due = self._bytes > most or (self._room is None and self._files >= _FIRST_LOOK)
            if due:
                # Others that write meanwhile count from here, and leave this trim to us.
                self._files, self._bytes = 0, 0
        if due:
            self.trim()

    def trim(self) -> None:
        """Brings the cache under its cap; what a killed process left half written a day ago goes."""
        entries = list(_entries(self.folder, oldest_half_s=time.time() - _HALF_LIVES_S))
        total = sum(size for _, size, _ in entries)
        if total > self.max_bytes:
            for _, size, path in sorted(entries):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                total -= size
                if total <= _TRIM_TO * self.max_bytes:
                    break
        self._room = min(self.max_bytes - total, _LOOK_SHARE * self.max_bytes)


def _entries(folder: Path, oldest_half_s: float) -> Iterator[tuple[float, int, str]]:
    """(time of the last use, bytes, path) of each kept file; half-written ones from before a time are removed."""
    with contextlib.suppress(OSError), os.scandir(folder) as drawers:
        for drawer in drawers:
            with contextlib.suppress(OSError), os.scandir(drawer.path) as files:
                for file in files:
                    if not file.name.endswith((".npy", ".tmp")):
                        continue
                    with contextlib.suppress(OSError):
                        status = file.stat()
                        if file.name.endswith(".npy"):
                            yield status.st_mtime, status.st_size, file.path
                        elif status.st_mtime < oldest_half_s:
                            os.unlink(file.path)
