"""This host's copies of a store's files: the index of what each was, and what half-done work leaves among them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.files import written_whole
from flywheel.store.columns import SCHEMAS

#: Where a folder says what each file was when it last was as in the store.
INDEX_FILE = ".objects.json"
_THREADS = 8
#: After so many seconds of work the index is written, and at its end.
_NOTE_EVERY_S = 10.0
#: The index is written anew, without what later lines take the place of, when it has so many more than it needs.
_SPARE_LINES = 1_000
#: What was written by halves and not touched for so many seconds is nobody's any more.
_HALF_LIVES_S = 86_400.0
#: So long a copy that the database names no more stays for readers that have listed it, in seconds.
_GRACE_S = 600.0
_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.part")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file as it was when it was the same here and there: the object's version, bytes and time of change here."""

    version: str
    size: int
    changed_ns: int


class Index:
    """Name -> copy, in a file of the folder; whoever changes it holds the folder's lock of copies.

    A change is a line at the file's end, so that it costs the same however many files there are.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / INDEX_FILE
        self.copies: dict[str, Copy] = {}
        #: The file as this last read or wrote it, the lines in it, and those to come.
        self._stamp: tuple[int, int, int] | None = None
        self._num_lines = 0
        self._waiting: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        """Read it again where another process changed it."""
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            self.copies = self._read()
            self._stamp = stamp

    def note(self, name: str, copy: Copy | None) -> None:
        """Note what a file is, or with None that there is none, with the next :meth:`keep`."""
        if copy is None:
            self.copies.pop(name, None)
        else:
            self.copies[name] = copy
        self._waiting.append(_line(name, copy))

    def keep(self) -> None:
        """Write what was noted."""
        if not self._waiting:
            return
        if self._num_lines + len(self._waiting) > 2 * len(self.copies) + _SPARE_LINES:
            with written_whole(self._file) as place:
                place.write_text("".join(_line(name, copy) for name, copy in self.copies.items()))
            self._num_lines = len(self.copies)
        else:
            with self._file.open("a", encoding="utf-8") as file:
                # A line that a kill cut off ends here.
                file.write("\n" + "".join(self._waiting))
            self._num_lines += len(self._waiting)
        self._waiting = []
        self._stamp = self._stamp_now()

    def note_each(self, names: Iterable[str], work: Callable[[str], Copy | None]) -> None:
        """Do this for each name, in threads, and note the copies as they come; None notes nothing.

        The index is written every few seconds: killed, the next one goes on. What the work raises ends it.
        """
        written_at = time.monotonic()
        with ThreadPoolExecutor(_THREADS) as pool:
            tasks = {pool.submit(work, name): name for name in names}
            noted: set[Future[Copy | None]] = set()
            try:
                for task in as_completed(tasks):
                    if (copy := task.result()) is not None:
                        self.note(tasks[task], copy)
                    noted.add(task)
                    if time.monotonic() - written_at > _NOTE_EVERY_S:
                        self.keep()
                        written_at = time.monotonic()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                for task in tasks.keys() - noted:
                    if not task.cancelled() and task.exception() is None and (copy := task.result()) is not None:
                        self.note(tasks[task], copy)
                self.keep()

    def _read(self) -> dict[str, Copy]:
        self._num_lines = 0
        try:
            text = self._file.read_text(encoding="utf-8")
            if text.startswith("{"):
                # Of versions that wrote all of it each time. It is written anew with the next change.
                rows = json.loads(text)
                self._num_lines = 1 << 60
                return {name: Copy(version=v, size=size, changed_ns=ns) for name, (v, size, ns) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Without it everything is fetched once more.
            return {}
        copies: dict[str, Copy] = {}
        for line in text.splitlines():
            self._num_lines += 1
            with contextlib.suppress(ValueError, TypeError):
                name, *parts = json.loads(line)
                copies.pop(name, None)
                if parts:
                    version, size, changed_ns = parts
                    copies[name] = Copy(version=version, size=size, changed_ns=changed_ns)
        return copies

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _line(name: str, copy: Copy | None) -> str:
    return json.dumps([name] if copy is None else [name, copy.version, copy.size, copy.changed_ns]) + "\n"


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


def trim_shards(root: Path, committed: Collection[str], most_bytes: int) -> None:
    """Remove shards that the database names no more, and above ``most_bytes`` those that were read longest ago."""
    now, copies = time.time(), []
    for kind in SCHEMAS:
        for path in (root / kind).rglob("part-*.parquet"):
            with contextlib.suppress(OSError):
                found = path.stat()
                if str(path.relative_to(root)) in committed:
                    copies.append((max(found.st_atime, found.st_mtime), found.st_size, path))
                elif now - found.st_mtime > _GRACE_S:
                    path.unlink()
    total = 0
    for _, size, path in sorted(copies, reverse=True):
        total += size
        if total > most_bytes:
            path.unlink(missing_ok=True)


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
