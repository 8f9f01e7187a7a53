"""What planners go by: figures of one clip's sound, alone and beside its picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.fit import Fit, fit
from flywheel.sound.gaps import gaps
from flywheel.sound.onsets import cleaned, onset_envelope
from flywheel.sound.quality import sound_quality

_WINDOW_S = 0.032
#: The noise of a band is the level that a quarter of the time is not above; frequencies below are offset.
_QUIET, _LEAST_HZ = 0.25, 30.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What happens in a picture: events (T,) at ``times_s``, seconds from where the sound begins."""

    events: NDArray[np.float32]
    times_s: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Figures of a sound. Levels in dB of full scale, ``peak_db`` that of the largest sample; ``flatness`` of the
    noise: near 1 for white, near 0 for a hum.

    ``gaps`` counts where it was cut out, ``gap_s`` is the longest.
    """

    level_db: float
    floor_db: float
    peak_db: float
    flatness: float
    gaps: int
    gap_s: float
    fit: Fit


@dataclass(frozen=True, kw_only=True)
class Norms:
    """What is usual in a corpus: the medians of its clips' level, noise and peak.

    ``floor_off_db`` and ``peak_off_db`` are how far half of the clips are from these at most: what varies least tells
    by how much a clip is too soft.
    """

    level_db: float
    floor_db: float
    peak_db: float
    floor_off_db: float
    peak_off_db: float

    def too_soft_db(self, of: Measures) -> float:
        """By how much a sound is softer than usual, by its peak or its noise, whichever varies less here."""
        by_peak, by_floor = self.peak_db - of.peak_db, self.floor_db - of.floor_db
        return by_peak if self.peak_off_db <= self.floor_off_db else by_floor


def measures(samples: NDArray[np.float32], rate_hz: int, picture: Picture) -> Measures:
    """Figures of mono samples (n,) beside their picture."""
    quality = sound_quality(samples, rate_hz)
    cut = [(stop - start) / rate_hz for start, stop in gaps(samples, rate_hz)]
    return Measures(
        level_db=quality.level_db,
        floor_db=quality.floor_db,
        peak_db=peak_db(samples),
        flatness=_flatness(samples, rate_hz),
        gaps=len(cut),
        gap_s=max(cut, default=0.0),
        fit=fit(onset_envelope(samples, rate_hz), picture.events, picture.times_s),
    )


def peak_db(samples: NDArray[np.float32]) -> float:
    """Level of the largest of mono samples (n,), dB of full scale."""
    return float(20 * np.log10(np.abs(cleaned(samples)).max(initial=0.0) + 1e-6))


def norms(of: Iterable[Measures]) -> Norms:
    """What is usual among these. Raises ValueError for none."""
    levels = np.array([(m.level_db, m.floor_db, m.peak_db) for m in of])
    if not len(levels):
        raise ValueError("norms: need the figures of at least one clip")
    usual = np.median(levels, axis=0)
    (level_db, floor_db, peak_db), off_db = usual, np.median(np.abs(levels - usual), axis=0)
    return Norms(
        level_db=float(level_db),
        floor_db=float(floor_db),
        peak_db=float(peak_db),
        floor_off_db=float(off_db[1]),
        peak_off_db=float(off_db[2]),
    )


def _flatness(samples: NDArray[np.float32], rate_hz: int) -> float:
    """Spectral flatness of what is there all the time: geometric over arithmetic mean of the bands' quiet power."""
    window = max(16, round(_WINDOW_S * rate_hz))
    if len(samples) < 4 * window:
        return 1.0
    hz, _, spectra = scipy.signal.stft(cleaned(samples), rate_hz, nperseg=window, boundary=None, padded=False)
    quiet = np.quantile(np.square(np.abs(spectra)), _QUIET, axis=1)[hz > _LEAST_HZ] + 1e-14
    return float(np.exp(np.mean(np.log(quiet))) / np.mean(quiet))
