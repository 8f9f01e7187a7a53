"""A clip's two sounds for people's ears: films that differ in nothing but the sound, both equally loud."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.curation.repair.standing import StandingSounds
from flywheel.media.audio import read_blocks
from flywheel.media.encode import Quality, transcode
from flywheel.media.resounded import write_resounded
from flywheel.sound.quality import level_db
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.parts import read_rows
from human_refine.making import OneByOne
from human_refine.order import order_keys
from human_refine.pairs import Pair
from human_refine.sound_pairs import SOUND, sound_pair

#: Where films lie, below the workspace; those that were made last are kept.
FILMS, _KEPT = "cache/heard", 64
#: Pairs that are offered at most.
_MOST_PAIRS = 10_000
#: How files end that are being written, and the age from which nobody writes one any more.
_BEING_WRITTEN, _LEFT_S = ".tmp.mp4", 86_400.0
#: Seconds of sound that are held at a time.
_RATE_HZ, _SIDE, _BLOCK_S = 48_000, 640, 5.0
_QUALITY = Quality(crf=26, preset="veryfast")
#: Gives a sound's mono samples in blocks (n,), each time it is called.
Blocks = Callable[[], Iterable[NDArray[np.float32]]]


class SoundsSideBySide:
    """The edited sounds that stand, each beside its original (:class:`human_refine.sound_pairs.SoundPairs`)."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._folder = workspace, workspace.root / FILMS
        self._making = OneByOne("sounds")

    def stamp(self) -> object:
        """Changes with each look at a sound."""
        return self._workspace.count("sound_versions")

    def pairs(self) -> Sequence[Pair]:
        """Clips whose edited sound stands, by chance; none of the test split."""
        standing = self._workspace.standing_sounds() if self.stamp() else pl.DataFrame({"id": [], "clip_id": []})
        asked = read_rows(self._workspace, "clips", standing["clip_id"], ["id"], pl.col("split") != "test")["id"]
        ids = standing.filter(pl.col("clip_id").is_in(asked.implode()))["id"].to_list()
        found = self._workspace.records.rows("sound_versions", ids, ["clip_id", "original", "version"])
        pairs = [sound_pair(*row) for row in found.iter_rows()]
        keys = order_keys([pair.pair_id for pair in pairs])
        return [pair for _, pair in sorted(zip(keys, pairs, strict=True), key=lambda item: item[0])][:_MOST_PAIRS]

    def film(self, pair: Pair, *, edited: bool, patience_s: float = 0.2) -> Path:
        """The clip with its edited sound or its original, as MP4.

        Raises MediaError where it can't be made, BeingMade where it is not there within ``patience_s``.
        """
        places = [self._folder / f"{pair.pair_id}-{name}.mp4" for name in ("original", "edited")]
        if not all(place.is_file() for place in places):
            self._making.have(pair.pair_id, partial(self._make, pair, places), patience_s)
        return places[edited]

    def _make(self, pair: Pair, places: Sequence[Path]) -> None:
        if all(place.is_file() for place in places):
            return
        clip = ClipIndex(self._workspace)[pair.clip_id]
        source = StandingSounds(self._workspace).of(clip)
        if not source.version or pair.second_id != SOUND + source.version:
            raise MediaError("this edited sound stands no longer")
        self._folder.mkdir(parents=True, exist_ok=True)
        picture = _temporary(places[0])
        check = partial(self._workspace.originals.check, clip.uri, clip.content_hash)
        try:
            with one_item("can't be made playable"):
                check()
                spans = ((Path(clip.uri), clip.start_s, clip.end_s), (source.path, source.start_s, source.end_s))
                sounds = equally_loud(*(partial(_sound, *span) for span in spans))
                self._write(clip, picture, sounds, places)
                check()
        finally:
            picture.unlink(missing_ok=True)
        self._trim(places)

    def _write(
        self, clip: Clip, picture: Path, sounds: Sequence[Iterable[NDArray[np.float32]]], places: Sequence[Path]
    ) -> None:
        """Encode the picture once, and put either sound to it."""
        transcode(Path(clip.uri), picture, start_s=clip.start_s, end_s=clip.end_s, max_side=_SIDE, quality=_QUALITY)
        for place, blocks in zip(places, sounds, strict=True):
            half = _temporary(place)
            try:
                write_resounded(picture, half, (blocks, _RATE_HZ))
                half.replace(place)
            finally:
                half.unlink(missing_ok=True)

    def _trim(self, keep: Sequence[Path]) -> None:
        made = sorted(((_changed_s(file), file) for file in self._folder.glob("*.mp4")), reverse=True)
        films = [file for _, file in made if not file.name.endswith(_BEING_WRITTEN)]
        # Another server may be writing the others; one that was killed left them.
        left = [file for at_s, file in made if file.name.endswith(_BEING_WRITTEN) and at_s < time.time() - _LEFT_S]
        for file in (*films[_KEPT:], *left):
            if file not in keep:
                # An open file stays readable after unlink.
                file.unlink(missing_ok=True)


def _temporary(place: Path) -> Path:
    """A name of this server's alone, beside a place: another one may be making the same film."""
    return place.with_suffix(f".{uuid.uuid4().hex[:8]}{_BEING_WRITTEN}")


def _changed_s(file: Path) -> float:
    """When a file was last written to, seconds since 1970; now for one that is gone already."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _sound(path: Path, start_s: float, end_s: float) -> Iterator[NDArray[np.float32]]:
    """Mono samples of a span in blocks (n,), silence where its sound ends early."""
    left = round((end_s - start_s) * _RATE_HZ)
    for block in read_blocks(path, start_s, end_s, rate_hz=_RATE_HZ, block_s=_BLOCK_S):
        left -= len(block)
        yield block
    while left > 0:
        silence = np.zeros(min(left, round(_BLOCK_S * _RATE_HZ)), dtype=np.float32)
        left -= len(silence)
        yield silence


def equally_loud(
    original: Blocks, edited: Blocks
) -> tuple[Iterator[NDArray[np.float32]], Iterator[NDArray[np.float32]]]:
    """Both sounds in blocks, the louder one made as loud as the other: who hears louder prefers that.

    Each is read twice, once for its level, so a block of it is held, whatever its length.
    """
    levels_db = [level_db(sound(), _RATE_HZ) for sound in (original, edited)]
    quiet_db = min(levels_db)
    first, second = (
        _scaled(sound, 10 ** ((quiet_db - loud_db) / 20))
        for sound, loud_db in zip((original, edited), levels_db, strict=True)
    )
    return first, second


def _scaled(sound: Blocks, factor: float) -> Iterator[NDArray[np.float32]]:
    return ((block * factor).astype(np.float32) for block in sound())
