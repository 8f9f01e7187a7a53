"""How well a sound fits a picture in time: as it is, moved, and played faster or slower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.onsets import TRACK_HZ
from flywheel.sound.synchrony import MOST_OFFSET_S, standing_out, visual_track

#: Speeds that are tried: those of films and tapes that ran wrong, by half a percent.
RATES = np.round(np.arange(0.88, 1.1401, 0.005), 3)
#: Within this the sound counts as at its time.
_TOGETHER_S = 0.05
#: So near it must be for a speed to be told: an offset would make up for a speed that is not quite right.
_EXACT_S = 0.01
#: Offsets are others when they are so far apart.
_APART_S = 0.04
#: Share of a clip that must overlap at the largest offset.
_LEAST_OVERLAP = 0.4


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Correlation, up to 1, of onsets heard with events seen: as they are, at the best offset, at the best speed.

    The sound is late by ``offset_s``; ``rival`` is how high the next best offset comes, as a share of it. Played at
    ``rate`` times its speed it fits by ``sped``, at no offset.
    """

    plain: float
    shifted: float
    offset_s: float
    rival: float
    sped: float
    rate: float


def fit(onsets: NDArray[np.float32], events: NDArray[np.float32], times_s: NDArray[np.float64]) -> Fit:
    """How onsets (n,) at :data:`TRACK_HZ` fit visual events (T,) at ``times_s``; zeros where there is nothing."""
    length = len(onsets)
    if length < 2 or len(times_s) < 2:
        return Fit(plain=0.0, shifted=0.0, offset_s=0.0, rival=0.0, sped=0.0, rate=1.0)
    seen = standing_out(visual_track(events, times_s, length))
    most = int(min(MOST_OFFSET_S * TRACK_HZ, (1 - _LEAST_OVERLAP) * length))
    places = np.arange(length)
    played = [standing_out(np.interp(places * rate, places, onsets, right=0.0).astype(np.float32)) for rate in RATES]
    sped = _near(np.stack(played), seen, _EXACT_S)
    curve = _curve(standing_out(onsets), seen, most)
    best = int(np.argmax(sped))
    return Fit(
        plain=together(onsets, events, times_s),
        shifted=float(curve.max()),
        offset_s=(int(curve.argmax()) - most) / TRACK_HZ,
        rival=_rival(curve),
        sped=float(sped[best]),
        rate=float(RATES[best]),
    )


def together(onsets: NDArray[np.float32], events: NDArray[np.float32], times_s: NDArray[np.float64]) -> float:
    """``plain`` of :func:`fit` alone."""
    length = len(onsets)
    if length < 2 or len(times_s) < 2:
        return 0.0
    seen = standing_out(visual_track(events, times_s, length))
    return float(_near(standing_out(onsets)[None], seen, _TOGETHER_S)[0])


def _near(heard_KN: NDArray[np.float32], seen_N: NDArray[np.float32], most_s: float) -> NDArray[np.float32]:
    """The highest correlation (K,) at offsets up to ``most_s``."""
    near = round(most_s * TRACK_HZ)
    moved = np.lib.stride_tricks.sliding_window_view(np.pad(seen_N, near), len(seen_N))
    highest: NDArray[np.float32] = (heard_KN @ moved.T).max(axis=1)
    return highest


def _rival(curve: NDArray[np.float32]) -> float:
    """The second highest peak as a share of the highest; 0 where there is none."""
    peaks = scipy.signal.find_peaks(curve, distance=max(1, round(_APART_S * TRACK_HZ)))[0]
    heights = np.sort(curve[peaks])[::-1]
    return float(max(heights[1] / heights[0], 0.0)) if len(heights) > 1 and heights[0] > 0 else 0.0


def _curve(heard: NDArray[np.float32], seen: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Correlation at offsets from -``most`` to ``most``."""
    full = scipy.signal.correlate(heard, seen, mode="full", method="fft")
    middle = len(heard) - 1
    curve: NDArray[np.float32] = full[middle - most : middle + most + 1]
    return curve
