"""How good a recording is, in figures that stand beside each other: no mean of them means anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.onsets import cleaned

_BLOCK_S = 0.02
#: Levels below are as good as none.
_LOWEST_DB = -100.0
#: Blocks softer than this are silence; and than the mean of the others by more, pauses (ITU-R BS.1770's gates).
_SILENCE_DB, _PAUSE_DB = -60.0, 10.0
#: Samples this near to full scale are clipped.
_FULL_SCALE = 0.99
#: Frequencies whose power lies by more below the strongest one's are empty.
_BAND_DB = 60.0
#: Share of blocks that are at most as loud as the noise floor.
_FLOOR_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class SoundQuality:
    """Figures of a recording. Levels are relative to full scale, shares are of its time.

    ``level_db``: of what sounds, pauses left out; ``clipped``: share of samples at full scale; ``silent``: share
    softer than -60 dB; ``band_hz``: the highest frequency that is not empty, up to half the rate that was read;
    ``floor_db``: level that a tenth of the time is not above; ``damaged``: share of samples that are no numbers.
    """

    level_db: float
    clipped: float
    silent: float
    band_hz: float
    floor_db: float
    damaged: float


def sound_quality(samples: NDArray[np.float32], rate_hz: int) -> SoundQuality:
    """Figures of mono samples (n,). Silence has the lowest level, no band, and is silent throughout."""
    damaged = float(1 - np.isfinite(samples).mean()) if len(samples) else 0.0
    signal = cleaned(samples)
    power = _powers(signal, rate_hz)
    if not len(power) or not np.any(signal):
        return SoundQuality(
            level_db=_LOWEST_DB, clipped=0.0, silent=1.0, band_hz=0.0, floor_db=_LOWEST_DB, damaged=damaged
        )
    block_db = np.maximum(10 * np.log10(power + 1e-12), _LOWEST_DB)
    return SoundQuality(
        level_db=_level(power),
        clipped=float((np.abs(signal) >= _FULL_SCALE).mean()),
        silent=float((block_db < _SILENCE_DB).mean()),
        band_hz=_band(signal, rate_hz),
        floor_db=float(np.quantile(block_db, _FLOOR_SHARE)),
        damaged=damaged,
    )


def level_db(blocks: Iterable[NDArray[np.float32]], rate_hz: int) -> float:
    """The ``level_db`` of :func:`sound_quality`, of mono samples in blocks (n,) of any lengths: one of them is held."""
    powers, rest = [np.zeros(0)], np.zeros(0, dtype=np.float32)
    for samples in blocks:
        signal = np.concatenate([rest, cleaned(samples)])
        powers.append(_powers(signal, rate_hz))
        rest = signal[len(powers[-1]) * _block(rate_hz) :].copy()
    power = np.concatenate(powers)
    return _level(power) if np.any(power) else _LOWEST_DB


def _block(rate_hz: int) -> int:
    """Samples of one block."""
    return max(1, int(_BLOCK_S * rate_hz))


def _powers(signal: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Mean power (b,) of each whole block of samples."""
    block = _block(rate_hz)
    count = len(signal) // block
    powers: NDArray[np.float64] = (
        np.square(signal[: count * block], dtype=np.float64).reshape(count, block).mean(axis=1)
    )
    return powers


def _level(power: NDArray[np.float64]) -> float:
    """Mean level of the blocks that are no pauses, of all blocks' mean powers (b,)."""
    block_db = np.maximum(10 * np.log10(power + 1e-12), _LOWEST_DB)
    some = block_db >= _SILENCE_DB
    if not some.any():
        return float(10 * np.log10(power.mean() + 1e-10))
    gate = 10 * np.log10(power[some].mean()) - _PAUSE_DB
    return float(10 * np.log10(power[some & (block_db >= gate)].mean()))


def _band(signal: NDArray[np.float32], rate_hz: int) -> float:
    frequencies, density = scipy.signal.welch(signal, fs=rate_hz, nperseg=min(1024, len(signal)))
    filled = np.flatnonzero(density > density.max() * 10 ** (-_BAND_DB / 10))
    return float(frequencies[filled[-1]]) if len(filled) else 0.0
