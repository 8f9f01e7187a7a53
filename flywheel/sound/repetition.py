"""Whether one sound lies under many clips: a print of sixteen bytes for each, and a count over all."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.onsets import cleaned

#: A print is :data:`NUM_WORDS` words of 32 bits: eight bands by sixteen spans of time.
NUM_WORDS = 4
_BANDS, _SPANS = 8, 16
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 4000.0
#: The print is of the first seconds from where something sounds.
_SPAN_S = 0.25
#: What is softer is silence.
_SILENCE = 10 ** (-60 / 20)
#: Changes up to this are none: encoding anew makes as large ones.
_SAME_DB = 1.5


def sound_print(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.uint32] | None:
    """Four words (4,) that encoding anew, or other loudness, leaves as they are but for some bits.

    Each bit says whether a band's level rose from one quarter of a second to the next, more than the band above did,
    from where the sound begins. None for silence, and for less than a second and a half of sound.
    """
    signal = cleaned(samples)
    begins = int(np.argmax(np.abs(signal) > _SILENCE)) if len(signal) else 0
    signal = signal[begins:]
    span = int(_SPAN_S * rate_hz)
    if len(signal) < 6 * span or not np.any(np.abs(signal) > _SILENCE):
        return None
    signal = np.pad(signal, (0, max(0, span * (_SPANS + 1) - len(signal))))[: span * (_SPANS + 1)]
    spectra = scipy.fft.rfft(signal.reshape(_SPANS + 1, span) * scipy.signal.get_window("hann", span), axis=1)
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 2)
    bins = np.searchsorted(np.fft.rfftfreq(span, 1 / rate_hz), edges)
    power = np.add.reduceat((spectra.real**2 + spectra.imag**2)[:, : bins[-1]], bins[:-1], axis=1)
    level_db = 10 * np.log10(np.maximum(power, power.max() * 1e-5))
    rise = np.diff(np.diff(level_db, axis=0), axis=1)
    bits = (rise > _SAME_DB).reshape(NUM_WORDS, 32)
    return np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)


def repeats(prints: NDArray[np.uint32]) -> NDArray[np.int32]:
    """How many others share a word with each print: (n,) of (n, 4). A word that says nothing is shared by none.

    Two that were encoded anew differ in few bits, so one of four words is likely left as it was. Chance makes two of
    a million clips' words equal for about one clip in a thousand.
    """
    most = np.zeros(len(prints), dtype=np.int32)
    for column in range(prints.shape[1]):
        words = prints[:, column]
        _, index, counts = np.unique(words, return_inverse=True, return_counts=True)
        shared = (counts[index] - 1).astype(np.int32)
        # Few bits are set where nothing changes: quiet ends, steady tones.
        shared[np.bitwise_count(words) < 4] = 0
        np.maximum(most, shared, out=most)
    return most
