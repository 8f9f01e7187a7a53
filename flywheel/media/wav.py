"""Writes sound as WAV: 16 bits, the same bytes for the same samples."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import MediaError

#: Sizes in a WAV's header have 32 bits.
_MOST_BYTES = (1 << 32) - 64


def write_wav(out: Path, blocks: Iterable[NDArray[np.float32]], *, length: int, channels: int, rate_hz: int) -> None:
    """Write samples in [-1, 1], blocks (n, channels) that are ``length`` long together; what lies beyond is cut.

    Raises MediaError for more than a WAV can hold, OSError where ``out`` can't be written.
    """
    if 2 * length * channels > _MOST_BYTES:
        raise MediaError("is longer than a WAV can hold (4 GiB): take in shorter clips")
    with open(out, "wb") as file, wave.open(file, "wb") as sound:
        sound.setparams((channels, 2, rate_hz, length, "NONE", ""))
        try:
            for block in blocks:
                whole = np.rint(block.clip(-1, 1) * np.float32(32767)).astype("<i2")
                sound.writeframesraw(whole.tobytes())
        except struct.error as error:
            raise MediaError(f"can't be written as WAV ({error})") from error
