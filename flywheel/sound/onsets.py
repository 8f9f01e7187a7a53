"""How strongly something begins to sound, by time."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

#: Rate of the tracks that sound and picture are compared on.
TRACK_HZ = 200
#: One window of the spectrum. Twice as long finds softer onsets, and tells their time half as well.
_WINDOW_S = 0.016
#: Bands of equal width in log-frequency between these; below is hum and offset.
_LOWEST_HZ, _NUM_BANDS = 80.0, 20
#: What is softer than the loudest band by more is silence.
_RANGE_DB = 50.0
#: What is softer than this, relative to full scale, is silence in any clip.
_FLOOR_DB = -70.0


def cleaned(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples (n,) with silence in place of what is no number, and no louder than twice full scale."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -2.0, 2.0).astype(np.float32)


def onset_envelope(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Onset strength (n,) at :data:`TRACK_HZ`, in decibels of rise per band; zeros for silence.

    The mean over bands of what each one's level rose since the value before (spectral flux, half-wave rectified).
    Value i is of the time i / TRACK_HZ: an onset's peak lies within one value of it.
    """
    hop, length = rate_hz / TRACK_HZ, int(len(samples) / rate_hz * TRACK_HZ)
    window = int(_WINDOW_S * rate_hz)
    if length < 2 or len(samples) < window:
        return np.zeros(max(0, length), dtype=np.float32)
    level_db = _levels(cleaned(samples), rate_hz, window, np.rint(np.arange(length) * hop).astype(np.int64))
    floor = max(_FLOOR_DB, float(level_db.max()) - _RANGE_DB)
    above = np.maximum(level_db, floor) - floor
    rise = np.maximum(above[2:] - above[:-2], 0).mean(axis=1)
    # A rise from i - 1 to i + 1, counted one value later: a window hears an onset before its middle comes to it.
    return np.concatenate(([0.0, 0.0], rise)).astype(np.float32)


def _levels(samples: NDArray[np.float32], rate_hz: int, window: int, at: NDArray[np.int64]) -> NDArray[np.float32]:
    """Level of each band (times, bands) in windows around these samples, dB relative to full scale."""
    padded = np.pad(samples, (window // 2, window))
    shape = scipy.signal.get_window("hann", window).astype(np.float32)
    edges = np.geomspace(_LOWEST_HZ, rate_hz / 2, _NUM_BANDS + 1)
    bins = np.searchsorted(np.fft.rfftfreq(window, 1 / rate_hz), edges)
    # Low bands are narrower than a bin: each has one at least.
    bins = np.unique(np.minimum(bins, window // 2))
    power = np.empty((len(at), len(bins) - 1), dtype=np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)
    # By parts: the spectra of an hour would take gigabytes.
    for start in range(0, len(at), 4096):
        spectra = scipy.fft.rfft(frames[at[start : start + 4096]] * shape, axis=1)
        energy = spectra.real**2 + spectra.imag**2
        power[start : start + 4096] = np.add.reduceat(energy[:, : bins[-1]], bins[:-1], axis=1)
    level_db: NDArray[np.float32] = 10 * np.log10(power / float(shape.sum() / 2) ** 2 + 1e-12)
    return level_db
