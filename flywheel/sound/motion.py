"""How strongly something happens in a picture, by time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Differences of grey up to this are noise of camera and codec.
_NOISE_GREY = 4
#: Frames farther apart say nothing of when something happened.
_MOST_APART_S = 0.5
#: An event fades so fast; what happens meanwhile and is no stronger is its echo.
_ECHO_S, _NEAR_S = 0.25, 0.09
#: Frames whose differences are in memory at a time.
_FRAMES = 256


def visual_events(
    grey_THW: NDArray[np.uint8], times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Times (T - 1,) and strengths (T - 1,), in grey levels of the mean pixel, of what happens between frames.

    Impacts, flashes, starts, stops and turns: how much more moves between two frames than between the two before, and
    than after, or less than both; and, at a frame, pixels that go and come back, the mean of 2 min(|a|, |b|) where the
    differences a and b to the frames beside it have opposite signs, half of it to each side. Steady motion gives about
    nothing, nor does what swings back after an event. Times are midpoints. Ours.
    """
    length = len(times_s)
    if length < 2:
        return np.zeros(0), np.zeros(0, np.float32)
    middle = (times_s[1:] + times_s[:-1]) / 2
    motion, back = np.zeros(max(0, length - 1), np.float32), np.zeros(length, np.float32)
    for start in range(0, length - 1, _FRAMES):
        end = min(length - 1, start + _FRAMES)
        # As 16 bits: differences have signs. One frame more on both sides, for what goes and comes back.
        low, high = max(0, start - 1), min(length, end + 2)
        steps = np.diff(grey_THW[low:high].astype(np.int16), axis=0)
        size = np.maximum(np.abs(steps) - _NOISE_GREY, 0)
        motion[low : high - 1] = size.mean(axis=(1, 2))
        both = np.minimum(size[:-1], size[1:]) * ((steps[:-1] > 0) != (steps[1:] > 0))
        back[low + 1 : high - 1] = both.mean(axis=(1, 2))
    around = np.pad(motion, 2, mode="edge")
    # Two on each side: where something turns, less moves for a moment, which is neither a stop nor a start.
    before, after = np.maximum(around[:-4], around[1:-3]), np.maximum(around[3:-1], around[4:])
    peaks = np.maximum(motion - before, 0) + np.maximum(motion - after, 0)
    peaks += np.maximum(np.minimum(before, after) - motion, 0)
    strength = peaks + back[:-1] + back[1:]
    strength[np.diff(times_s) > _MOST_APART_S] = 0
    return middle, _without_echoes(middle, strength)


def _without_echoes(times_s: NDArray[np.float64], strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of each strength is more than the fading of those before it: things swing back, ring and settle.

    The one just before is left out where frames are near, since an event may lie between two.
    """
    out, fading, waiting, before_s = np.zeros(len(strength), np.float32), 0.0, 0.0, 0.0
    for place, (at_s, value) in enumerate(zip(times_s.tolist(), strength.tolist())):
        fade = math.exp(-(at_s - before_s) / _ECHO_S)
        fading *= fade
        out[place] = max(0.0, value - fading)
        fading, waiting = max(fading, waiting * fade), value
        if at_s - before_s > _NEAR_S:
            fading = max(fading, value)
        before_s = at_s
    return out
