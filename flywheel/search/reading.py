"""Clips and files as an encoder reads them, and the text that a clip has now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import Clip
from flywheel.media.audio import read_blocks
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.models.encoders import Encoder
from flywheel.rounds.encoder_clips import MOST_S, READ_SIDE, times_of
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace


def file_frames(encoder: Encoder, file: Path) -> tuple[NDArray[np.uint8], bool]:
    """Frames of a whole file, and whether it has sound. Raises MediaError where it is no video."""
    info = probe(file)
    side = READ_SIDE * encoder.frame_size
    return read_frames(file, times_of(encoder, 0.0, info.duration_s), max_side=side), info.has_audio


def file_samples(encoder: Encoder, file: Path) -> NDArray[np.float32]:
    """The first minute of a file's sound. Raises MediaError where it has none."""
    rate = encoder.spectrogram.rate_hz
    blocks = list(read_blocks(file, 0.0, MOST_S, rate_hz=rate, block_s=MOST_S))
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
