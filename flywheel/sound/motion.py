"""How strongly something happens in a picture, by time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Differences of grey up to this are noise of camera and codec.
_NOISE_GREY = 4
#: Frames farther apart say nothing of when something happened.
_MOST_APART_S = 0.5
#: Frames whose differences are in memory at a time.
_FRAMES = 256


def visual_events(grey_THW: NDArray[np.uint8], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Strength (T,) of what happens at each frame, in grey levels of the mean pixel: impacts, flashes, starts, stops.

    With a the difference to the frame before and b that to the one after: pixels that go and come back, the sum of
    2 min(|a|, |b|) where a and b have opposite signs, as at a turn or a flash, and the change of all motion,
    ||b| - |a||, as at a start or a stop. Steady motion gives about nothing. Both ends are 0. Ours.
    """
    length = len(times_s)
    out = np.zeros(length, dtype=np.float32)
    for start in range(1, length - 1, _FRAMES):
        end = min(length - 1, start + _FRAMES)
        # As 16 bits: differences have signs.
        steps = np.diff(grey_THW[start - 1 : end + 1].astype(np.int16), axis=0)
        size = np.maximum(np.abs(steps) - _NOISE_GREY, 0)
        back = np.minimum(size[:-1], size[1:]) * ((steps[:-1] > 0) != (steps[1:] > 0))
        motion = size.mean(axis=(1, 2))
        out[start:end] = 2 * back.mean(axis=(1, 2)) + np.abs(np.diff(motion))
    apart = np.diff(times_s) > _MOST_APART_S
    if apart.any():
        out[1:][apart] = 0
        out[:-1][apart] = 0
    return out
