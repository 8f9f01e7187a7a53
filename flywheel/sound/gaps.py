"""Where a sound was cut out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Amplitude below which nothing sounds (-60 dB), and that which was there just before it was cut off (-40 dB).
_SILENT, _SOUNDING = 1e-3, 1e-2
#: Levels are peaks of cells this long; a gap is no shorter than ``SHORTEST_S``.
_CELL_S, SHORTEST_S = 0.001, 0.005
#: A sound that fades away takes longer than this from -40 to -60 dB.
_ABRUPT_S = 0.003


def gaps(samples: NDArray[np.float32], rate_hz: int, *, longest_s: float = 2.0) -> list[tuple[int, int]]:
    """Spans [start, stop) of samples (n,) or (n, channels) in which all channels were cut out, in order.

    A gap begins abruptly, since a sound that fades is none that was cut, and something sounds after it.
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
        start, stop = _to_the_sample(peaks, first * cell, end * cell, cell)
        before = peaks[max(0, start - round(_ABRUPT_S * rate_hz)) : start]
        if SHORTEST_S <= (stop - start) / rate_hz <= longest_s and before.max(initial=0) >= _SOUNDING:
            found.append((start, stop))
    return found


def _to_the_sample(peaks: NDArray[np.float32], start: int, stop: int, cell: int) -> tuple[int, int]:
    """The span made as long as the silence goes on within the cells beside it."""
    before, after = peaks[start - cell : start] >= _SILENT, peaks[stop : stop + cell] >= _SILENT
    return start - int(np.argmax(before[::-1])), stop + (int(np.argmax(after)) if after.any() else 0)
