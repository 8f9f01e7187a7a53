"""Frames and sound of clips as models get them, read in this process or in one of another host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.config import Config, Corpus, Store
from flywheel.core.errors import NO_MEDIUM, MediaError
from flywheel.core.types import Clip
from flywheel.curation.repair.standing import StandingSounds
from flywheel.models.inputs import ClipInput, clip_input, clip_times
from flywheel.store.database import Database, sqlite_url
from flywheel.store.view import View


class ClipReader:
    """Reads clips through a workspace's cache; pickled, it does so where it arrives, from the same folder.

    ``sounds`` gives the edited sounds that stand now, ``num_sounds`` how many had been made when they were read.
    """

    def __init__(self, view: View, sounds: Callable[[], StandingSounds], num_sounds: Callable[[], int]) -> None:
        self._view, self._sounds, self._num_sounds = view, sounds, num_sounds

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


@lru_cache(maxsize=2)
def _there(corpus: str, root: str, database: str, num_sounds: int) -> ClipReader:
    """The reader in a process that got it; made once, and anew where there are more edited sounds."""
    folder = Path(root)
    url = os.path.expandvars(database) if database else sqlite_url(folder / "flywheel.db")
    config = Config(corpus=Corpus.model_validate_json(corpus), store=Store(database=database))
    view = View(folder, config, Database(url))
    made: list[StandingSounds] = []

    def sounds() -> StandingSounds:
        if not made:
            made.append(StandingSounds(view))
        return made[0]

    return ClipReader(view, sounds, lambda: num_sounds)
