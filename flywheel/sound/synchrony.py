"""Whether what is heard happens when it is seen, and by how much it is late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.onsets import TRACK_HZ

#: Why there is no offset: nothing to compare, or no one answer.
Doubt = Literal["", "too short", "no onsets", "still picture", "periodic", "no peak"]

#: Offsets that are looked for, either way.
MOST_OFFSET_S = 2.0
#: Shorter clips hold too little; and at least this share of a clip must overlap at the largest offset.
_LEAST_S, _LEAST_FRAMES, _LEAST_OVERLAP = 1.0, 5, 0.4
#: Sound and picture within this count as together: people notice more (ITU-R BT.1359: .045 early, .125 late).
TOGETHER_S = 0.08
#: A second peak nearer to the first is a part of it.
_SAME_PEAK_S = 0.16
#: A second peak this high beside the first leaves it open which one it is.
_PERIODIC = 0.8
#: A track whose correlation with itself comes to this share again is periodic.
_REPEATS = 0.6
#: Standard deviations of the rest from which on a peak stands out.
_LEAST_CONTRAST = 5.0
#: Onset strength, in dB of rise per band, and visual strength, in grey levels of the mean pixel, that are something.
_LEAST_ONSET_DB, _LEAST_EVENT = 1.5, 0.02
#: The tracks are compared by what stands out of this surrounding.
_AROUND_S = 0.6
#: Standard deviation of the bells that the tracks are blurred with: what the times of frames leave open.
_BLUR_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Synchrony:
    """How a sound fits a picture in time.

    ``offset_s`` is by how much the sound is late, nan where ``doubt`` says why it can't be told. ``contrast`` is how
    far the correlation's peak stands above the rest, in standard deviations of the rest; ``together`` the same of what
    lies within :data:`TOGETHER_S` of no offset. Both are nan where there is nothing to compare, and numbers where
    there is, also with a doubt.
    """

    offset_s: float
    contrast: float
    together: float
    doubt: Doubt


def synchrony(onsets: NDArray[np.float32], events: NDArray[np.float32], times_s: NDArray[np.float64]) -> Synchrony:
    """How onsets (n,) at :data:`~flywheel.sound.onsets.TRACK_HZ` fit visual events (T,) at ``times_s``.

    The tracks' cross-correlation over offsets up to :data:`MOST_OFFSET_S`, the peak between its values by a parabola.
    Times are seconds from where the sound begins. Ours.
    """
    length = len(onsets)
    if length < _LEAST_S * TRACK_HZ or len(times_s) < _LEAST_FRAMES:
        return _nothing("too short")
    if float(onsets.max()) < _LEAST_ONSET_DB:
        return _nothing("no onsets")
    if float(events.max()) < _LEAST_EVENT:
        return _nothing("still picture")
    heard, seen = standing_out(onsets), standing_out(visual_track(events, times_s, length))
    return compare(heard, seen)


def visual_track(events: NDArray[np.float32], times_s: NDArray[np.float64], length: int) -> NDArray[np.float32]:
    """Visual events (T,) at ``times_s`` as a track (length,) at :data:`~flywheel.sound.onsets.TRACK_HZ`."""
    track = np.interp(np.arange(length) / TRACK_HZ, times_s, events, left=0.0, right=0.0)
    return track.astype(np.float32)


def standing_out(track: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of a track stands out of its surrounding, as a track (n,) of mean 0 and length 1; zeros where nothing does.

    The square root keeps one great event, such as a cut, from being all that counts.
    """
    around = int(_AROUND_S * TRACK_HZ)
    root = np.sqrt(scipy.ndimage.gaussian_filter1d(track.astype(np.float32), _BLUR_S * TRACK_HZ))
    out = np.maximum(root - scipy.ndimage.uniform_filter1d(root, around), 0)
    out -= out.mean()
    norm = float(np.linalg.norm(out))
    unit: NDArray[np.float32] = (out / norm if norm > 0 else out).astype(np.float32)
    return unit


def compare(heard: NDArray[np.float32], seen: NDArray[np.float32]) -> Synchrony:
    """How two tracks of one length, as :func:`standing_out` makes them, fit each other in time."""
    length = len(heard)
    most = int(min(MOST_OFFSET_S * TRACK_HZ, (1 - _LEAST_OVERLAP) * length))
    full = scipy.signal.correlate(heard, seen, mode="full", method="fft")
    curve = full[length - 1 - most : length + most]
    peak, same = int(curve.argmax()), int(_SAME_PEAK_S * TRACK_HZ)
    contrast, rest = _contrast(curve, max(0, peak - same), peak + same + 1)
    near = int(TOGETHER_S * TRACK_HZ)
    inner = curve[most - near : most + near + 1]
    together = _contrast(curve, most - same, most + same + 1, float(inner.max()))[0]
    doubt: Doubt = ""
    if contrast < _LEAST_CONTRAST or rest > _PERIODIC * curve[peak]:
        doubt = "periodic" if _repeats(heard, most) and _repeats(seen, most) else "no peak"
    offset_s = float("nan") if doubt else (peak + _between(curve, peak) - most) / TRACK_HZ
    return Synchrony(offset_s=offset_s, contrast=contrast, together=together, doubt=doubt)


def _contrast(curve: NDArray[np.float32], low: int, high: int, value: float | None = None) -> tuple[float, float]:
    """How far [low, high)'s maximum, or a value, stands above the rest, in its deviations; the rest's maximum."""
    rest = np.concatenate((curve[:low], curve[high:]))
    value = float(curve[low:high].max()) if value is None else value
    return float((value - rest.mean()) / (rest.std() + 1e-9)), float(rest.max())


def _repeats(track: NDArray[np.float32], most: int) -> bool:
    """Whether a track is much like itself some time later."""
    curve = scipy.signal.correlate(track, track, mode="full", method="fft")[len(track) - 1 :]
    return float(curve[int(_SAME_PEAK_S * TRACK_HZ) : most].max()) > _REPEATS * float(curve[0])


def _between(curve: NDArray[np.float32], peak: int) -> float:
    """Where a peak lies between values, in [-.5, .5], by the parabola through it and its neighbours."""
    if not 0 < peak < len(curve) - 1:
        return 0.0
    before, at, after = (float(value) for value in curve[peak - 1 : peak + 2])
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _nothing(doubt: Doubt) -> Synchrony:
    nan = float("nan")
    return Synchrony(offset_s=nan, contrast=nan, together=nan, doubt=doubt)
