"""Sound between its samples."""

from __future__ import annotations

import numpy as np
import scipy

from flywheel.sound.actions._source import Samples, Source

#: Taps of the low-pass on each side of its middle, at twice the rate, and Kaiser's beta: some 80 dB.
_HALF_TAPS, _BETA = 128, 8.0
#: Samples on both sides of what is asked for that count.
_AROUND = _HALF_TAPS


def played(source: Source, start: int, stop: int, *, speed: float, late: float = 0.0) -> Samples:
    """Samples [start, stop) of the sound played at ``speed``, and ``late`` samples later: (stop - start, channels).

    Sample i is the sound at $(i - late) \\cdot speed$. What would pass half the rate is taken away first, so that it
    does not come back as another tone. At twice the rate, quintic splines are exact to some 80 dB.
    """
    at = (np.arange(start, stop, dtype=np.float64) - late) * speed
    if not len(at):
        return source.take(0, 0)
    low, high = int(np.floor(at[0])) - _AROUND, int(np.ceil(at[-1])) + _AROUND + 1
    taps = scipy.signal.firwin(2 * _HALF_TAPS + 1, min(1.0, 1 / speed) * 0.97 / 2, window=("kaiser", _BETA))
    double = scipy.signal.resample_poly(source.take(low, high), 2, 1, axis=0, window=taps)
    places = (at - low) * 2
    out = np.empty((len(at), double.shape[1]), dtype=np.float32)
    for channel in range(double.shape[1]):
        scipy.ndimage.map_coordinates(double[:, channel], [places], order=5, output=out[:, channel])
    return out
