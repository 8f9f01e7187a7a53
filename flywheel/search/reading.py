"""Clips and files as an encoder reads them, and the text that a clip has now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import Clip
from flywheel.curation.repair.standing import StandingSounds
from flywheel.media.audio import read_audio, read_blocks
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.models.encoders import Encoder
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace

T = TypeVar("T")
#: Of longer clips and files so many seconds of sound are read, from the middle.
_MOST_S = 60.0
#: Frames are read so many times as large as the encoder's squares: wide pictures are squeezed into those.
_READ_SIDE = 2


def times_of(encoder: Encoder, start_s: float, end_s: float) -> list[float]:
    """The middles of as many equal parts of a span as the encoder looks at frames, seconds."""
    step = (end_s - start_s) / encoder.frames
    return [start_s + (number + 0.5) * step for number in range(encoder.frames)]


def sound_span(start_s: float, end_s: float) -> tuple[float, float]:
    """The part of a span whose sound is read."""
    beyond = max(0.0, end_s - start_s - _MOST_S) / 2
    return start_s + beyond, end_s - beyond


class ClipReader:
    """Reads clips' frames (T, H, W, 3) and samples (S,). Both raise MediaError where the clip can't be read.

    ``kept`` goes through the workspace's cache, for clips that are read again and again.
    """

    def __init__(self, workspace: Workspace, encoder: Encoder, *, kept: bool) -> None:
        self._encoder, self._check, self._cache = encoder, workspace.originals.check, workspace.cache if kept else None
        #: Which sound of a clip is read.
        self.sounds = StandingSounds(workspace)

    def frames(self, clip: Clip) -> NDArray[np.uint8]:
        """Frames on screen at the middles of the clip's parts."""
        times_s, side = times_of(self._encoder, clip.start_s, clip.end_s), _READ_SIDE * self._encoder.frame_size
        if self._cache is not None:
            return self._cache.frames(clip.uri, clip.content_hash, times_s, side)
        read = partial(read_frames, Path(clip.uri), times_s, max_side=side)
        return self._checked(clip.uri, clip.content_hash, read)

    def samples(self, clip: Clip) -> NDArray[np.float32]:
        """The clip's sound, edited where such a one stands; of a long clip that of its middle."""
        source, rate = self.sounds.of(clip), self._encoder.spectrogram.rate_hz
        path, content_hash = str(source.path), source.content_hash
        start_s, end_s = sound_span(source.start_s, source.end_s)
        if self._cache is not None:
            return self._cache.sound(path, content_hash, start_s, end_s, rate)
        return self._checked(path, content_hash, partial(read_audio, source.path, start_s, end_s, rate_hz=rate))

    def _checked(self, path: str, content_hash: str, read: Callable[[], T]) -> T:
        # Before and after: what another video showed meanwhile is not this clip's.
        self._check(path, content_hash)
        values = read()
        self._check(path, content_hash)
        return values


def file_frames(encoder: Encoder, file: Path) -> tuple[NDArray[np.uint8], bool]:
    """Frames of a whole file, and whether it has sound. Raises MediaError where it is no video."""
    info = probe(file)
    side = _READ_SIDE * encoder.frame_size
    return read_frames(file, times_of(encoder, 0.0, info.duration_s), max_side=side), info.has_audio


def file_samples(encoder: Encoder, file: Path) -> NDArray[np.float32]:
    """The first minute of a file's sound. Raises MediaError where it has none."""
    rate = encoder.spectrogram.rate_hz
    blocks = list(read_blocks(file, 0.0, _MOST_S, rate_hz=rate, block_s=_MOST_S))
    return np.concatenate(blocks) if blocks else np.zeros(1, np.float32)


class ClipTexts:
    """The texts of clips as they stand: people's words, else the newest round's caption, else what came along."""

    def __init__(self, workspace: Workspace) -> None:
        self._current = CurrentTexts(workspace)

    def of(self, clips: Sequence[Clip]) -> Mapping[str, str]:
        """Clip id -> its text, of those that have any; for some thousand clips at a time, or rounds are read often."""
        texts: dict[str, str] = {}
        for clip in clips:
            human = self._current.human.get(clip.id)
            if human is not None:
                # What people rejected is no text of the clip's, and what was written before is no better.
                texts[clip.id] = human.text or ""
        for round in sorted(self._current.rounds, reverse=True):
            missing = [clip.id for clip in clips if clip.id not in texts]
            texts |= {clip_id: caption.text for clip_id, caption in self._current.of(round, missing).items()}
        came = {clip.id: clip.transcript for clip in clips if clip.id not in texts}
        return {clip_id: text for clip_id, text in (texts | came).items() if text.strip()}
