"""Files as an encoder reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.media.audio import read_blocks
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.models.encoder_spans import MOST_S, READ_SIDE, times_of
from flywheel.models.encoders import Embedder


def file_frames(encoder: Embedder, file: Path) -> tuple[NDArray[np.uint8], bool]:
    """Frames of a whole file, and whether it has sound. Raises MediaError where it is no video."""
    info = probe(file)
    side = READ_SIDE * encoder.frame_size
    return read_frames(file, times_of(encoder, 0.0, info.duration_s), max_side=side), info.has_audio


def file_samples(encoder: Embedder, file: Path) -> NDArray[np.float32]:
    """The first minute of a file's sound. Raises MediaError where it has none."""
    rate = encoder.rate_hz
    blocks = list(read_blocks(file, 0.0, MOST_S, rate_hz=rate, block_s=MOST_S))
    return np.concatenate(blocks) if blocks else np.zeros(1, np.float32)
