"""Files of edited sounds by their content's hash: in the cache, since each can be made again from its original."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import polars as pl

from flywheel.media.probe import file_hash

#: The time of change of a file that is as it was written: whoever writes to it afterwards leaves another.
_SEALED_NS = 10**18
#: A trim goes down to this share of the cap.
_TRIM_TO = 0.9
#: So old a place to work in is one that a killed process left, in seconds.
_LEFT_S = 3600.0


class SoundFiles:
    """Edited sounds below ``cache/sounds``: files appear whole, and are checked before they are used."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "cache" / "sounds"

    def place(self, content_hash: str) -> Path:
        """Where the file of this content lies, if it is there."""
        return self.folder / content_hash[:2] / f"{content_hash}.wav"

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder to work in, on the same disk; it goes with all that lies in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=self.folder, ignore_cleanup_errors=True) as place:
            yield Path(place)

    def add(self, write: Callable[[Path], None]) -> tuple[str, int]:
        """Keep the file that ``write`` writes to the path it is given; returns its hash and bytes."""
        with self.scratch() as folder:
            part = folder / "part.wav"
            write(part)
            content_hash, num_bytes = file_hash(part), part.stat().st_size
            os.utime(part, ns=(time.time_ns(), _SEALED_NS))
            place = self.place(content_hash)
            place.parent.mkdir(exist_ok=True)
            os.replace(part, place)
        return content_hash, num_bytes

    def has(self, content_hash: str, num_bytes: int) -> bool:
        """Whether the file is there and holds what was written; one that does not is removed."""
        place = self.place(content_hash)
        try:
            status = os.stat(place)
            now = time.time_ns()
            if status.st_size == num_bytes and status.st_mtime_ns == _SEALED_NS:
                # The time of its last use, by which a trim goes.
                with contextlib.suppress(OSError):
                    os.utime(place, ns=(now, _SEALED_NS))
                return True
            if status.st_size == num_bytes and file_hash(place) == content_hash:
                # Copied, without its time.
                with contextlib.suppress(OSError):
                    os.utime(place, ns=(now, _SEALED_NS))
                return True
            place.unlink()
        except OSError:
            pass
        return False

    def trim(self, most_bytes: int) -> int:
        """Remove the files used longest ago until the others fit; returns how many went."""
        files = sorted((status.st_atime_ns, status.st_size, path) for path, status in self._files())
        total, gone = sum(size for _, size, _ in files), 0
        if total > most_bytes:
            for _, size, path in files:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    gone, total = gone + 1, total - size
                if total <= _TRIM_TO * most_bytes:
                    break
        return gone

    def sweep(self, on_record: Collection[str] | pl.Series) -> int:
        """Remove files that no record names, and what killed processes left; returns how many files went.

        The caller holds the workspace's lock.
        """
        named, gone = set(pl.Series(on_record, dtype=pl.String).hash(0).to_list()), 0
        for path, _ in self._files():
            if pl.Series([Path(path).stem]).hash(0)[0] not in named:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    gone += 1
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.name.startswith(".") and abs(time.time() - entry.stat().st_mtime) > _LEFT_S:
                        shutil.rmtree(entry.path, ignore_errors=True)
        return gone

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        with contextlib.suppress(OSError), os.scandir(self.folder) as drawers:
            for drawer in drawers:
                if drawer.name.startswith("."):
                    continue
                with contextlib.suppress(OSError), os.scandir(drawer.path) as files:
                    for file in files:
                        with contextlib.suppress(OSError):
                            yield file.path, file.stat()
