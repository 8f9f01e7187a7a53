"""Sounds of any length, read by spans and worked on by blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.sound.onsets import cleaned

Samples = NDArray[np.float32]

#: Seconds of sound that are worked on at a time. What is held is a small multiple of it, whatever the length.
BLOCK_S = 20.0


@dataclass(frozen=True)
class Source:
    """A sound of ``length`` samples; ``read(start, stop)`` gives (stop - start, channels) of those that there are."""

    read: Callable[[int, int], NDArray[np.floating]]
    length: int
    rate_hz: int

    def take(self, start: int, stop: int) -> Samples:
        """Samples [start, stop) as (stop - start, channels): silence before, after, and in place of no numbers."""
        low, high = min(max(start, 0), self.length), max(min(stop, self.length), 0)
        samples = cleaned(np.asarray(self.read(low, max(low, high)), dtype=np.float32))
        return np.pad(samples, ((max(0, low - start), max(0, stop - max(low, high))), (0, 0)))[: stop - start]

    def spans(self, multiple: int = 1) -> Iterator[tuple[int, int]]:
        """The blocks [start, stop) of the sound, in order, all but the last as long as a ``multiple`` of samples."""
        size = max(1, round(BLOCK_S * self.rate_hz) // multiple) * multiple
        for start in range(0, self.length, size):
            yield start, min(start + size, self.length)


def local(source: Source, work: Callable[[Samples], Samples], *, margin_s: float, fade_s: float) -> Iterator[Samples]:
    """What ``work`` makes of each block, when it is given ``margin_s`` around it; neighbours fade over ``fade_s``."""
    margin, fade = round(margin_s * source.rate_hz), round(fade_s * source.rate_hz)
    before: Samples | None = None
    for start, stop in source.spans():
        begin, end = max(0, start - margin), min(source.length, stop + fade + margin)
        done = work(source.take(begin, end))[start - begin :]
        if before is not None:
            both = min(len(before), len(done))
            rising = (np.arange(both, dtype=np.float32)[:, None] + 0.5) / both
            done[:both] = before[:both] * (1 - rising) + done[:both] * rising
        before = done[stop - start : stop - start + fade].copy()
        yield done[: stop - start]
