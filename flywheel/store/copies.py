"""This host's copies of a store's files: the index of what each was, and what half-done work leaves among them."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.files import written_whole

#: Where a folder says what each file was when it last was as in the store.
INDEX_FILE = ".objects.json"
_THREADS = 8
#: After so many seconds of work the index is written, and at its end.
_NOTE_EVERY_S = 10.0
#: What was written by halves and not touched for so many seconds is nobody's any more.
_HALF_LIVES_S = 86_400.0
_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.part")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file as it was when it was the same here and there: the object's version, bytes and time of change here."""

    version: str
    size: int
    changed_ns: int


class Index:
    """Name -> copy, in a file of the folder; whoever changes it holds the folder's lock of copies."""

    def __init__(self, root: Path) -> None:
        self._file = root / INDEX_FILE
        self.copies = self._read()

    def _read(self) -> dict[str, Copy]:
        try:
            rows = json.loads(self._file.read_text())
            return {name: Copy(version=v, size=size, changed_ns=ns) for name, (v, size, ns) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Without it everything is fetched once more.
            return {}

    def keep(self) -> None:
        """Write it."""
        rows = {name: [copy.version, copy.size, copy.changed_ns] for name, copy in self.copies.items()}
        with written_whole(self._file) as place:
            place.write_text(json.dumps(rows))

    def note_each(self, names: Iterable[str], work: Callable[[str], Copy | None]) -> None:
        """Do this for each name, in threads, and note the copies as they come; None notes nothing.

        The index is written every few seconds: killed, the next one goes on. What the work raises ends it.
        """
        written_at = time.monotonic()
        with ThreadPoolExecutor(_THREADS) as pool:
            tasks = {pool.submit(work, name): name for name in names}
            try:
                for task in as_completed(tasks):
                    if (copy := task.result()) is not None:
                        self.copies[tasks[task]] = copy
                    if time.monotonic() - written_at > _NOTE_EVERY_S:
                        self.keep()
                        written_at = time.monotonic()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                for task, name in tasks.items():
                    if not task.cancelled() and task.exception() is None and (copy := task.result()) is not None:
                        self.copies[name] = copy
                if tasks:
                    self.keep()


def remove_copy(root: Path, name: str) -> None:
    """Remove a file, and the folders above it that are empty then: a folder that is there says something was made."""
    file = root / name
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            # Something is in it.
            return


def remove_halves(root: Path, now: float | None = None) -> int:
    """Remove what a killed process left half written a day ago and more; returns how much that was."""
    latest, count = (time.time() if now is None else now) - _HALF_LIVES_S, 0
    for folder, names, files in os.walk(root):
        for name in [n for n in (*names, *files) if _HALF.fullmatch(n)]:
            place = Path(folder, name)
            if _last_change(place) < latest:
                shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
                count += 1
        # Caches have their own order.
        names[:] = [n for n in names if not _HALF.fullmatch(n) and not (n == "cache" and Path(folder) == root)]
    return count


def _last_change(place: Path) -> float:
    """Seconds since 1970 at which a file, or something in a folder, was last written."""
    try:
        return max(p.stat().st_mtime for p in (place, *place.rglob("*")))
    except OSError:
        return time.time()
