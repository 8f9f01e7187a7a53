"""Filters as gains of a short-time spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.actions._source import Samples, Source, local

Spectrum = NDArray[np.float32]

#: A quarter of a window: windows are four times as long, and lie over each other by three quarters.
HOP_S = 0.008
#: Noise is what is there for at least three quarters of the time: this quantile of each band's power, ...
_QUIET = 0.25
#: ... which in noise, whose power is exponentially distributed, is this share of its mean.
_QUANTILE_OF_MEAN = float(-np.log(1 - _QUIET))
#: Power of a window, relative to full scale, below which nothing sounds: it says nothing of the noise.
_SILENCE = 1e-9
#: With fewer windows of sound nobody can tell what is noise.
_LEAST_WINDOWS = 16
#: Noise is told from a block and so much around it; blocks fade into each other over as long as it may have changed.
_MARGIN_S, _FADE_S = 4.0, 1.0

#: From power (times, bands) and the mean power of noise (bands,), the factors of amplitude (times, bands) in [0, 1].
Gains = Callable[[Spectrum, Spectrum], Spectrum]


def filtered(source: Source, gains: Gains) -> Iterator[Samples]:
    """The sound with the gains at work, the same for all channels, so that things stay where they are heard."""
    return local(source, lambda samples: _filtered(samples, source.rate_hz, gains), margin_s=_MARGIN_S, fade_s=_FADE_S)


def _filtered(samples: Samples, rate_hz: int, gains: Gains) -> Samples:
    window = 4 * max(1, round(HOP_S * rate_hz))
    if len(samples) < window:
        return samples
    length, channels = samples.shape
    overlap = window - window // 4
    _, _, spectra = scipy.signal.stft(samples.T, rate_hz, nperseg=window, noverlap=overlap)  # (channels, bands, times)
    power = np.zeros((spectra.shape[2], spectra.shape[1]), dtype=np.float32)
    for spectrum in spectra:
        power += (spectrum.real**2 + spectrum.imag**2).T / channels
    noise = _noise(power)
    if noise is None:
        return samples
    spectra *= gains(power, noise).T
    out = scipy.signal.istft(spectra, rate_hz, nperseg=window, noverlap=overlap)[1]
    filtered: Samples = np.ascontiguousarray(out[:, :length].T, dtype=np.float32)
    return filtered


def _noise(power: Spectrum) -> Spectrum | None:
    """Mean power of the noise (bands,); None where too little sounds to tell."""
    sounding = power[power.sum(axis=1) > _SILENCE]
    if len(sounding) < _LEAST_WINDOWS:
        return None
    place = int(_QUIET * len(sounding))
    noise: Spectrum = np.partition(sounding, place, axis=0)[place] / _QUANTILE_OF_MEAN + 1e-20
    return noise.astype(np.float32)
