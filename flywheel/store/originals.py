"""Whether a path still holds the content that clips were cut from: files are replaced under their names."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import sqlalchemy as sql

from flywheel.core.errors import BorderError, MediaError
from flywheel.media.probe import file_hash
from flywheel.store import schema
from flywheel.store.database import Database, parts
from flywheel.store.mirror import mirror_of
from flywheel.store.places import on_record, whole

#: Files whose content is remembered, by path, size and time of change.
_MOST_FILES = 4096
#: What was found is written down when there is so much of it, or when the last time is so long ago.
_PENDING, _PENDING_S = 64, 5.0
_READERS = 16


class Originals:
    """The files of a workspace against what they were when they were taken in; threads may share it.

    A file of the size and time of change on record is believed to be the same. Another is read whole, once, and its
    new size and time go on record where its content is the old one.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self._root, self._db = root, database
        self._lock = threading.Lock()
        #: While one reads a file, others wait for what it finds; most other files are not held up.
        self._readers = [threading.Lock() for _ in range(_READERS)]
        self._contents: OrderedDict[tuple[str, int, int], str] = OrderedDict()
        self._expected: Mapping[str, tuple[str, int, int]] = {}
        self._pending: list[dict[str, str | int]] = []
        self._noted_at = 0.0

    def expect(self, content_hashes: Iterable[str]) -> None:
        """Look up what is on record of some thousand contents at once, before they are checked one by one."""
        places = schema.locations.c
        query = sql.select(places.content_hash, places.uri, places.num_bytes, places.mtime_ns)
        found: dict[str, tuple[str, int, int]] = {}
        with self._db.transaction() as connection:
            for part in parts(dict.fromkeys(content_hashes)):
                rows = connection.execute(query.where(places.content_hash.in_(part)))
                found.update({row[0]: (whole(self._root, row[1]), row[2], row[3]) for row in rows})
        self._expected = found

    def check(self, path: str | Path, content_hash: str) -> None:
        """Raises MediaError where the file is gone, or holds another content than this (a SHA-256).

        A video of a workspace on an object store comes here first. Raises BorderError where the store does not answer.
        """
        place = str(path)
        try:
            status = os.stat(place)
        except (OSError, ValueError) as error:
            if not self._brought(place, content_hash):
                raise MediaError("the file is gone") from error
            status = os.stat(place)
        key = (place, status.st_size, status.st_mtime_ns)
        with self._readers[hash(place) % _READERS]:
            found = self._contents.get(key)
            if found is None:
                found = content_hash if self._on_record(key, content_hash) else self._read(key, content_hash)
                self._remember(key, found)
        if found != content_hash:
            raise MediaError(
                "the file holds another video than when it was added; "
                "put the old one back, or add the new one with 'flywheel ingest'"
            )

    def _brought(self, place: str, content_hash: str) -> bool:
        """Bring a file from the object store, where the workspace lies on one; returns whether it is here now."""
        mirror, below = mirror_of(self._root), f"{self._root}/"
        if mirror is None or not place.startswith(below):
            return False
        places = schema.locations.c
        query = sql.select(places.mtime_ns).where(places.content_hash == content_hash)
        with self._db.transaction() as connection:
            changed_ns = connection.execute(query).scalar()
        if mirror.bring(place.removeprefix(below), changed_ns):
            # Read once: from then on its size and time say that it is the same.
            status = os.stat(place)
            self._remember((place, status.st_size, status.st_mtime_ns), file_hash(Path(place)))
        return os.path.exists(place)

    def _remember(self, key: tuple[str, int, int], content_hash: str) -> None:
        with self._lock:
            self._contents[key] = content_hash
            while len(self._contents) > _MOST_FILES:
                self._contents.popitem(last=False)

    def _on_record(self, key: tuple[str, int, int], content_hash: str) -> bool:
        if self._expected.get(content_hash) == key:
            return True
        places = schema.locations.c
        query = sql.select(places.uri, places.num_bytes, places.mtime_ns).where(places.content_hash == content_hash)
        with self._db.transaction() as connection:
            row = connection.execute(query).first()
        return row is not None and (whole(self._root, row[0]), row[1], row[2]) == key

    def _read(self, key: tuple[str, int, int], content_hash: str) -> str:
        found = file_hash(Path(key[0]))
        if found == content_hash:
            names = ("place", "size", "changed")
            with self._lock:
                place = {"hash": content_hash, "inner": on_record(self._root, key[0])}
                self._pending.append({**place, **dict(zip(names, key, strict=True))})
                if len(self._pending) >= _PENDING or time.monotonic() - self._noted_at > _PENDING_S:
                    self._note()
        return found

    def _note(self) -> None:
        """Write down what was found; where that can't be, the files are read again another time."""
        places = schema.locations.c
        update = (
            sql.update(schema.locations)
            .where(places.content_hash == sql.bindparam("hash"))
            .where(places.uri.in_([sql.bindparam("place"), sql.bindparam("inner")]))
            .values(num_bytes=sql.bindparam("size"), mtime_ns=sql.bindparam("changed"))
        )
        with contextlib.suppress(BorderError), self._db.transaction() as connection:
            connection.execute(update, self._pending)
        self._pending, self._noted_at = [], time.monotonic()
