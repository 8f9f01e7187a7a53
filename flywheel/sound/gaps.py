"""Where a sound was cut out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Amplitude below which nothing sounds (-75 dB), and that which was there just before it was cut off (-40 dB).
_SILENT, _SOUNDING = 10 ** (-75 / 20), 1e-2
#: Levels are peaks of cells this long; a gap is no shorter than ``SHORTEST_S``.
_CELL_S, SHORTEST_S = 0.001, 0.005
#: Before a cut the sound goes on as it was: the first so long before it is as loud as the longer time before that, or
#: at most half as loud (a held tone that ends within 20 ms falls further).
_LAST_S, _EARLIER_S, _FADED = 0.003, 0.010, 0.5
#: Codecs ring on for so long after a cut, and are softer than what was cut off by this factor (25 dB) at once.
_RINGING_S, _DROP = 0.024, 10 ** (-25 / 20)


def gaps(samples: NDArray[np.float32], rate_hz: int, *, longest_s: float = 2.0) -> list[tuple[int, int]]:
    """Spans [start, stop) of samples (n,) or (n, channels) in which all channels were cut out, in order.

    A gap begins abruptly, since a sound that fades is none that was cut, and something sounds after it. What a codec
    leaves ringing after the cut counts as part of the gap.
    """
    peaks = np.abs(samples) if samples.ndim == 1 else np.abs(samples).max(axis=1, initial=0)
    cell = max(1, round(_CELL_S * rate_hz))
    count = len(peaks) // cell
    quiet = peaks[: count * cell].reshape(count, cell).max(axis=1) < _SILENT
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.astype(np.int8), [0]))))
    found = []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if first == 0 or end == count:
            continue
        silent, stop = _to_the_sample(peaks, first * cell, end * cell, cell)
        start = _cut(peaks, silent, rate_hz)
        if start is not None and SHORTEST_S <= (stop - start) / rate_hz <= longest_s:
            found.append((start, stop))
    return found


def _to_the_sample(peaks: NDArray[np.float32], start: int, stop: int, cell: int) -> tuple[int, int]:
    """The span made as long as the silence goes on within the cells beside it."""
    before, after = peaks[start - cell : start] >= _SILENT, peaks[stop : stop + cell] >= _SILENT
    return start - int(np.argmax(before[::-1])), stop + (int(np.argmax(after)) if after.any() else 0)


def _cut(peaks: NDArray[np.float32], silent: int, rate_hz: int) -> int | None:
    """Where the sound was cut that is silent from ``silent`` on; None where it faded away."""
    if _goes_on(peaks, silent, rate_hz):
        return silent
    last = max(1, round(_LAST_S * rate_hz))
    lowest = max(last, silent - round(_RINGING_S * rate_hz))
    for start in range(silent - last // 2, lowest, -max(1, last // 6)):
        before = peaks[start - last : start].max(initial=0)
        if before >= _SOUNDING and peaks[start:silent].max(initial=0) < _DROP * before:
            # To the sample: where it was last louder than what rings on.
            begin = start - int(np.argmax(peaks[start - last : start][::-1] >= _DROP * before))
            return begin if _goes_on(peaks, begin, rate_hz) else None
    return None


def _goes_on(peaks: NDArray[np.float32], at: int, rate_hz: int) -> bool:
    """Whether something sounds just before ``at``, and does not fade."""
    last, earlier = max(1, round(_LAST_S * rate_hz)), round(_EARLIER_S * rate_hz)
    before = float(peaks[max(0, at - last) : at].max(initial=0))
    return before >= _SOUNDING and before >= _FADED * float(
        peaks[max(0, at - last - earlier) : at - last].max(initial=0)
    )
