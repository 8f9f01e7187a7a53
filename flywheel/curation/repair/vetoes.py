"""What an edit must not do, whatever it is rewarded with: mute, drown, or put another sound in place of the clip's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.onsets import cleaned, onset_envelope
from flywheel.sound.quality import sound_quality
from flywheel.sound.synchrony import standing_out

#: From the original, the edited sound (n,) and their rate why the edit is refused; empty where it is not.
Veto = Callable[[NDArray[np.float32], NDArray[np.float32], int], str]

#: What sounds may become softer by so much, but for noise that goes.
_MOST_SOFTER_DB = 12.0
#: Onsets' tracks must be so alike, at the best of all offsets and speeds.
_ALIKE = 0.35
_SPEEDS = np.arange(0.8, 1.26, 0.025)
#: Bands of the loud moments, whose levels must be so alike.
_BANDS, _LOWEST_HZ, _LOUD, _WINDOW_S = 16, 80.0, 0.95, 0.032
_SAME_SPECTRUM = 0.4


def energy(original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int) -> str:
    """Refuses edits after which hardly anything sounds."""
    before, after = (sound_quality(samples, rate_hz) for samples in (original, edited))
    lost_db = before.level_db - after.level_db
    return f"energy: {lost_db:.0f} dB softer" if lost_db > _MOST_SOFTER_DB else ""


def events(original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int) -> str:
    """Refuses edits after which other things begin to sound than before, wherever they were moved."""
    before, after = (onset_envelope(samples, rate_hz) for samples in (original, edited))
    if not before.max(initial=0) > 0:
        return ""
    places, best = np.arange(len(before)), 0.0
    unit = standing_out(after)
    for speed in _SPEEDS:
        played = standing_out(np.interp(places * speed, places, before, right=0.0).astype(np.float32))
        best = max(best, float(scipy.signal.correlate(played, unit, mode="full", method="fft").max()))
    return f"events: only {best:.2f} alike" if best < _ALIKE else ""


def spectrum(original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int) -> str:
    """Refuses edits after which the loud moments are of another colour."""
    before, after = (_colour(samples, rate_hz) for samples in (original, edited))
    if before is None or after is None:
        return ""
    alike = float(np.corrcoef(before, after)[0, 1]) if before.std() > 0 and after.std() > 0 else 1.0
    return f"spectrum: only {alike:.2f} alike" if alike < _SAME_SPECTRUM else ""


def _colour(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64] | None:
    """Level of each band, in dB, in the loud moments; None for what is too short to tell."""
    window = max(16, round(_WINDOW_S * rate_hz))
    if len(samples) < 4 * window:
        return None
    hz, _, spectra = scipy.signal.stft(cleaned(samples), rate_hz, nperseg=window, boundary=None, padded=False)
    edges = np.searchsorted(hz, np.geomspace(_LOWEST_HZ, rate_hz / 2, _BANDS + 1))
    power = np.square(np.abs(spectra))
    bands = [power[low : max(low + 1, high)].sum(axis=0) for low, high in pairwise(edges)]
    loud = np.quantile(np.array(bands), _LOUD, axis=1)
    return np.asarray(10 * np.log10(np.maximum(loud, loud.max() * 1e-6) + 1e-12))


VETOES: dict[str, Veto] = {"energy": energy, "events": events, "spectrum": spectrum}
