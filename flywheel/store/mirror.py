"""A workspace on an object store: its files there, and the folder of this host that has copies of them.

Everything reads and writes the folder. What a commit in the database names is in the store before that commit: a shard
of records under a name that is used once, and all other files (models, reports, media) before the stage that made them
is done. So the database is the manifest, and no rename is needed: killed before a commit, nobody names what was
written; killed after, it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.store.columns import SCHEMAS
from flywheel.store.copies import INDEX_FILE, Copy, Index, remove_copy, remove_halves
from flywheel.store.locking import is_held
from flywheel.store.objects import Entry, Objects

#: Where a folder says whose copies it has, and what is held while files come and go.
URL_FILE, _LOCK_FILE = ".objects", ".objects.lock"
#: What is each host's own: caches, locks, and what a tracker or SQLite writes in place.
_NOT_SHARED = {"cache", "spool", "mlartifacts", ".lock", ".home", "store.mark", URL_FILE, INDEX_FILE}
_NOT_SHARED |= {_LOCK_FILE}
_NOT_SHARED_ENDS = (".tmp", ".part", ".db", ".db-wal", ".db-shm", ".log")
#: In a host's cache: the takedowns that it was emptied for.
CACHE_MARK = ".taken_down"
_THREADS = 8


def mirror_of(root: Path) -> Mirror | None:
    """The store whose copies a folder has; None for one of its own.

    Raises UserError where the folder does not say which: what is written there would reach no store.
    """
    try:
        url = (root / URL_FILE).read_text().strip()
    except OSError:
        return None
    if not url:
        raise UserError(f"{root / URL_FILE}: is empty. Run the command with the workspace's URL: --config s3://…")
    return _mirror(root, url)


def names_below(root: Path, folder: str) -> list[str]:
    """Names, as seen from a workspace, of the files below one of its folders: those here, and the object store's.

    The caller holds the workspace's lock.
    """
    here = {file.relative_to(root).as_posix() for file in (root / folder).rglob("*") if file.is_file()}
    mirror = mirror_of(root)
    return sorted(here if mirror is None else here | mirror.present(f"{folder}/"))


def is_gone(root: Path, place: str) -> bool:
    """Whether a file of a workspace is there no more; of one on an object store it may only not have come here yet."""
    return not Path(place).exists() and (mirror_of(root) is None or not place.startswith(f"{root}/"))


def _is_lazy(name: str) -> bool:
    """Whether a file comes here when it is first read: of videos a host needs those of its share alone."""
    return name.startswith("media/")


@cache
def _mirror(root: Path, url: str) -> Mirror:
    return Mirror(url, root)


class Mirror:
    """A workspace's files in an object store, and this host's copies of them below ``root``."""

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root
        self.objects = Objects(url)
        #: Names that were here when this process looked: those that go were removed by it.
        self._present: set[str] = set()
        #: What the store had then.
        self._listed: Collection[str] = ()
        self._looked = False
        self._index = Index(root)

    # All files but records.

    def pull(self) -> None:
        """Bring what others wrote here; while another process of this host writes, what is here is the newest."""
        with self._alone():
            if not is_held(self.root):
                self._pulled()

    def pull_held(self) -> None:
        """:meth:`pull` for the holder of the workspace's lock."""
        with self._alone():
            self._pulled()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of this host at a time brings or sends files; the others wait."""
        with open(self.root / _LOCK_FILE, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._index.refresh()
            yield

    def _pulled(self) -> None:
        if not self._looked:
            remove_halves(self.root)
            self._looked = True
        there = {name: entry for name, entry in self.objects.listing().items() if self._is_shared(name)}
        self._listed = there.keys()
        index = self._index
        copies = index.copies
        wanted = [
            name
            for name, entry in there.items()
            if self._is_older(name, entry, copies.get(name)) and (not _is_lazy(name) or (self.root / name).exists())
        ]
        index.note_each(wanted, self._brought)
        for name in [name for name in copies if _is_lazy(name) and not (self.root / name).exists()]:
            # Who freed space here did not mean the store's.
            index.note(name, None)
        gone = set(copies) - set(there)
        for name in gone:
            # Another host removed it. What changed here since is this host's to publish.
            if self._is_as(name, copies[name]):
                remove_copy(self.root, name)
            index.note(name, None)
        index.keep()
        self._present = set(there)

    def _brought(self, name: str) -> Copy | None:
        """Bring a file here; None where it went since it was listed."""
        entry = self._got(name)
        return None if entry is None else self._copy_of(name, entry)

    def _got(self, name: str) -> Entry | None:
        try:
            return self.objects.get(name, self.root / name, is_listed=name in self._listed)
        except FileNotFoundError:
            # It went since it was listed.
            return None

    def bring(self, name: str, changed_ns: int | None = None) -> bool:
        """Bring one file here that is not, where the store has it; returns whether it did.

        ``changed_ns`` is the time of change that it gets, so that it has the same one on all hosts.
        """
        file = self.root / name
        if file.exists() or not self._is_shared(name) or (entry := self._got(name)) is None:
            return False
        with self._alone():
            if changed_ns is not None:
                os.utime(file, ns=(time.time_ns(), changed_ns))
            # On record as the store's: or it would be sent back when another host takes it down.
            self._index.note(name, self._copy_of(name, entry))
            self._index.keep()
            self._present.add(name)
        return True

    def present(self, beginning: str) -> set[str]:
        """The names in the store that begin so, as of the last pull; with the lock nobody else changes them."""
        return {name for name in self._present if name.startswith(beginning)}

    def discard(self, name: str) -> None:
        """Remove a file in the store, and here where it is; the caller holds the workspace's lock."""
        if name not in self._present and not (self.root / name).exists():
            # With the lock nobody else writes there.
            return
        with self._alone():
            self.objects.remove(name)
            (self.root / name).unlink(missing_ok=True)
            self._index.note(name, None)
            self._index.keep()
            self._present.discard(name)

    def _is_older(self, name: str, entry: Entry, copy: Copy | None) -> bool:
        """Whether the store has something else than what was the same here last."""
        return copy is None or copy.version != entry.version or not (self.root / name).exists()

    def publish(self) -> int:
        """Write what is new or another here to the store, and remove there what was removed here; returns how many.

        Of ``media/`` nothing is removed but by :meth:`discard`. The caller holds the workspace's lock.
        """
        with self._alone():
            return self._published()

    def publish_files(self, files: Iterable[str]) -> int:
        """Write those of these files (paths) that are new or another here, and look at no other; returns how many.

        Paths that are not of this folder, or of nothing that is shared, are passed over. The caller holds the lock.
        """
        below = f"{self.root}/"
        names = {file.removeprefix(below) for file in files if file.startswith(below)}
        with self._alone():
            changed = self._changed(name for name in names if self._is_shared(name) and (self.root / name).exists())
            self._index.note_each(changed, self._sent)
            self._present.update(changed)
        return len(changed)

    def _changed(self, names: Iterable[str]) -> list[str]:
        """Those of these names whose files are not as they were in the store last, in order."""
        copies = self._index.copies
        return [name for name in sorted(names) if name not in copies or not self._is_as(name, copies[name])]

    def renew_cache(self, mark: str) -> None:
        """Empty this host's cache unless it was emptied for this mark before: what it holds of clips that went, goes.

        Without a mark it is emptied now, and the next time too.
        """
        cache = self.root / "cache"
        with self._alone():
            file = cache / CACHE_MARK
            if mark and file.exists() and file.read_text() == mark:
                return
            if cache.exists():
                # Away at once: others of this host may be at work in it, and make it anew.
                old = self.root / f".cache.{uuid.uuid4().hex[:8]}.part"
                cache.rename(old)
                shutil.rmtree(old, ignore_errors=True)
            cache.mkdir(exist_ok=True)
            if mark:
                with written_whole(file) as place:
                    place.write_text(mark)

    def settled(self, name: str, text: str) -> str:
        """The text of a file that is written once, by whichever host is first: this one where the store has none."""
        with self._alone():
            file = self.root / name
            if not file.exists():
                with written_whole(file) as place:
                    place.write_text(text)
            try:
                self.objects.put(file, name, new=True)
            except FileExistsError:
                self.objects.get(name, file)
            return file.read_text()

    def _published(self) -> int:
        index, here = self._index, set(self._files())
        copies = index.copies
        changed = self._changed(here)
        index.note_each(changed, self._sent)
        gone = (self._present & set(copies)) - here
        for name in gone:
            # A video that is not here may be freed space: those that must go are discarded.
            if not _is_lazy(name):
                self.objects.remove(name)
            index.note(name, None)
        index.keep()
        self._present = here | {name for name in self._present if _is_lazy(name)}
        return len(changed) + len(gone)

    def _sent(self, name: str) -> Copy | None:
        """Write a file to the store; what it was before it was read counts: a later change is written again.

        None where it went since it was listed.
        """
        try:
            found = (self.root / name).stat()
            entry = self.objects.put(self.root / name, name)
        except FileNotFoundError:
            if (self.root / name).exists():
                raise
            return None
        return Copy(version=entry.version, size=found.st_size, changed_ns=found.st_mtime_ns)

    def _files(self) -> Iterator[str]:
        for folder, names, files in os.walk(self.root):
            inner = os.path.relpath(folder, self.root)
            prefix = "" if inner == "." else f"{inner}/"
            names[:] = [name for name in names if self._is_shared(f"{prefix}{name}/")]
            yield from (f"{prefix}{file}" for file in files if self._is_shared(prefix + file))

    @staticmethod
    def _is_shared(name: str) -> bool:
        first, *_ = steps = name.split("/")
        # What goes is renamed first: what lies below it goes too.
        is_half = any(step.endswith(_NOT_SHARED_ENDS) for step in steps)
        return first not in _NOT_SHARED and first not in SCHEMAS and not is_half

    def _is_as(self, name: str, copy: Copy) -> bool:
        try:
            found = (self.root / name).stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (copy.size, copy.changed_ns)

    def _copy_of(self, name: str, entry: Entry) -> Copy:
        found = (self.root / name).stat()
        return Copy(version=entry.version, size=found.st_size, changed_ns=found.st_mtime_ns)

    # Shards of records: named once, never changed.

    def add(self, name: str) -> None:
        """Write a shard that was written here to the store. Raises FileExistsError where its name was used."""
        self.objects.put(self.root / name, name, new=True)

    def fetch(self, names: Iterable[str]) -> None:
        """Bring those of these shards here that are not; what is not in the store either stays away."""
        missing = [name for name in names if not (self.root / name).exists()]
        if missing:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(self._got, missing))

    def remove(self, name: str) -> None:
        """Remove a shard from the store."""
        self.objects.remove(name)

    def shards(self) -> set[str]:
        """Names of all shards in the store, those that no commit names too."""
        return {name for name in self.objects.listing() if name.split("/", 1)[0] in SCHEMAS}
