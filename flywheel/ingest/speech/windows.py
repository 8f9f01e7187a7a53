"""Cuts a long sound into windows where nobody speaks, as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
#: Samples (n,) -> chance of speech in each of their frames (m,), and a frame's length in samples.
SpeechChances = Callable[[Samples], tuple[NDArray[np.float32], int]]
#: A cut lies in the last part of a window, where the chance of speech, over so many seconds, is least.
_SEARCHED_S, _AROUND_S = 60.0, 0.5


def windows(
    blocks: Iterable[Samples], *, window_s: float, rate_hz: int, chances: SpeechChances
) -> Iterator[tuple[float, Samples]]:
    """(begin in seconds, samples (n,)) of each window; one is held at a time.

    A window is about ``window_s`` long, and cut in the pause of its last minute, or where speech is least likely.
    """
    waiting: list[Samples] = []
    begin = count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count < window_s * rate_hz:
            continue
        samples = np.concatenate(waiting)
        cut = _cut(samples, min(_SEARCHED_S, window_s / 2), rate_hz, chances)
        # A copy: a view would hold the whole window.
        waiting = [samples[cut:].copy()]
        yield begin / rate_hz, samples[:cut]
        begin, count = begin + cut, count - cut
    if count:
        yield begin / rate_hz, np.concatenate(waiting)


def _cut(samples: Samples, searched_s: float, rate_hz: int, chances: SpeechChances) -> int:
    """Where to cut: the middle of the place in the last ``searched_s`` where speech is least likely."""
    begin = len(samples) - round(searched_s * rate_hz)
    found, frame = chances(samples[begin:])
    around = max(1, round(_AROUND_S * rate_hz / frame))
    mean = np.convolve(found, np.ones(around, dtype=np.float32) / around, mode="valid")
    return begin + (int(np.argmin(mean)) + around // 2) * frame
