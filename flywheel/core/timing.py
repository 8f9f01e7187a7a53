"""Seconds to frames, in one place."""

from __future__ import annotations

import math


def frame_index(time_s: float, fps: float) -> int:
    """The frame on screen at ``time_s`` in a stream of constant ``fps``:
    floor, with a nanosecond's grace for rounding."""
    return math.floor((time_s + 1e-9) * fps)


def uniform_times(start_s: float, end_s: float, count: int) -> list[float]:
    """The centres of ``count`` equal parts of [start_s, end_s), in seconds."""
    step = (end_s - start_s) / count
    return [start_s + (i + 0.5) * step for i in range(count)]


def fps_times(start_s: float, end_s: float, fps: float, at_most: int) -> list[float]:
    """Times ``1/fps`` apart, thinned evenly where that would be more than ``at_most``; never fewer than one."""
    count = max(1, round((end_s - start_s) * fps))
    return uniform_times(start_s, end_s, min(count, at_most))
