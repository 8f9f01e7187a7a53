"""Frames and sound of clips as models get them, read in this process or in one of another host."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.config import Config, Corpus, Store
from flywheel.core.errors import NO_MEDIUM, MediaError
from flywheel.core.types import Clip
from flywheel.curation.repair.standing import StandingSounds
from flywheel.models.inputs import ClipInput, clip_input, clip_times
from flywheel.store.cache import FrameCache
from flywheel.store.database import Database, sqlite_url
from flywheel.store.view import GIB, View

#: Readers that a process keeps: of two workspaces, or before and after an edit of sounds.
_KEPT = 2


class ClipReader:
    """Reads clips through a workspace's cache; pickled, it does so where it arrives, from the same folder.

    ``sounds`` gives the edited sounds that stand now, ``num_sounds`` how many had been made when they were read.
    """

    def __init__(self, view: View | _Lazy, sounds: Callable[[], StandingSounds], num_sounds: Callable[[], int]) -> None:
        self._view, self._sounds, self._num_sounds = view, sounds, num_sounds

    @property
    def cache(self) -> FrameCache:
        """Where frames and sounds are read; it counts what it found and what it read from files."""
        return self._view.cache

    def __call__(self, clip: Clip, inputs: Iterable[str]) -> ClipInput:
        """The frames and sound of a clip, from the cache where they are there; ``inputs`` says which of both.

        Raises MediaError where they can't be decoded, and where sound alone is wanted of a clip without a sound track.
        """
        corpus, cache, wanted = self._view.config.corpus, self._view.cache, frozenset(inputs)
        frames, times, sound = None, list[float](), None
        if wanted == {"sound"} and not clip.has_audio:
            raise MediaError("the clip has no sound track: there is nothing to be heard", code=NO_MEDIUM)
        with one_item():
            if "frames" in wanted:
                times = clip_times(clip, corpus.frames, corpus.sampling, corpus.fps)
                frames = cache.frames(clip.uri, clip.content_hash, times, corpus.max_side)
            if "sound" in wanted:
                source = self._sounds().of(clip)
                sound = cache.sound(str(source.path), source.content_hash, source.start_s, source.end_s)
            return clip_input(clip, frames, times, sound)

    def __reduce__(self) -> tuple[Any, ...]:
        view = self._view
        # The database's address as it is written, with the names of variables: passwords don't go along.
        address = view.config.store.database
        return _there, (view.config.corpus.model_dump_json(), str(view.root), address, self._num_sounds())


class _Lazy:
    """What a process that got a reader reads: its database is opened by who asks for a sound or reads a file."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root, self.config = root, config
        most_bytes = int(config.corpus.cache_gib * GIB)
        self.cache = FrameCache(root / "cache" / "frames", most_bytes, check=self._check)
        self._view: View | None = None
        self._lock = threading.Lock()

    def view(self) -> View:
        """The workspace, opened when it is first asked for."""
        with self._lock:
            if self._view is None:
                address = self.config.store.database
                url = os.path.expandvars(address) if address else sqlite_url(self.root / "flywheel.db")
                self._view = View(self.root, self.config, Database(url))
            return self._view

    def _check(self, path: str | Path, content_hash: str) -> None:
        self.view().originals.check(path, content_hash)

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._view is not None:
                self._view.database.close()


#: The last readers that came into this process.
_readers: OrderedDict[tuple[str, str, str, int], tuple[_Lazy, ClipReader]] = OrderedDict()


def _there(corpus: str, root: str, database: str, num_sounds: int) -> ClipReader:
    """The reader in a process that got it; made once, and anew where there are more edited sounds."""
    key = (corpus, root, database, num_sounds)
    if key not in _readers:
        _readers[key] = _made(*key)
        while len(_readers) > _KEPT:
            _readers.popitem(last=False)[1][0].close()
    _readers.move_to_end(key)
    return _readers[key][1]


def _made(corpus: str, root: str, database: str, num_sounds: int) -> tuple[_Lazy, ClipReader]:
    there = _Lazy(Path(root), Config(corpus=Corpus.model_validate_json(corpus), store=Store(database=database)))
    made: list[StandingSounds] = []

    def sounds() -> StandingSounds:
        if not made:
            made.append(StandingSounds(there.view()))
        return made[0]

    return there, ClipReader(there, sounds, lambda: num_sounds)
