"""Sound events by signal processing: text evidence for models that cannot hear.

Plain short-time analysis with scipy. Loudness decides when something sounds, spectral flatness (Wiener entropy)
whether it is tone or noise, length whether it is a click, syllable-rate modulation whether it may be speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

Kind = Literal["tone", "sweep up", "sweep down", "noise", "click", "speech-like"]

_HOP_S = 0.01
_WINDOW_S = 0.032
#: Sound softer than this, or than the clip's loudest moment less the range, is silence.
_FLOOR_DB = -55.0
_RANGE_DB = 30.0
#: Silences up to this length do not part an event in two.
_GAP_S = 0.04
#: Frequencies below are hum and offset, not sound that anybody means.
_AUDIBLE_HZ = 60.0

#: Flatness is the geometric over the arithmetic mean of the power spectrum: 0 for a pure tone, about .56 for
#: white noise. Above this an event is noise.
_NOISE_FLATNESS = 0.12
#: Noise up to this length is a click.
_CLICK_S = 0.09

#: A tone this long whose last third lies by this factor above or below its first is a sweep (5:4, a major third).
_SWEEP_S = 0.3
_SWEEP_RATIO = 1.25
#: Tones whose pitches differ by less than the same factor, either way, are named as one.
_SAME_PITCH = (0.8, 1.25)
#: Tones below are called low.
_LOW_HZ = 250.0

#: Speech: at least this long, ...
_SPEECH_S = 0.5
#: ... this share of the energy within the band of voices, ...
_VOICE_HZ = (100.0, 4000.0)
_VOICE_SHARE = 0.8
#: ... this share of its level's modulation at the rate of syllables (slower than the least counts as drift), ...
_SYLLABLES_HZ = (2.0, 8.0)
_DRIFT_HZ = 0.5
_SYLLABLE_SHARE = 0.4
#: ... and a strongest frequency that wanders: the standard deviation of its logarithm.
_WANDER = 0.25

#: From these levels on an event is called loud, or soft.
_LOUD_DB, _SOFT_DB = -20.0, -40.0
#: Groups of like events that a description names.
_MOST_GROUPS = 3


@dataclass(frozen=True, kw_only=True)
class SoundEvent:
    """One stretch of sound. Times are seconds from the clip's start, ``loudness_db`` is RMS relative to full scale.

    ``pitch_hz`` is the strongest frequency, None for noise, clicks and speech.
    """

    kind: Kind
    start_s: float
    end_s: float
    loudness_db: float
    pitch_hz: float | None


def sound_events(samples: NDArray[np.float32], rate_hz: int) -> list[SoundEvent]:
    """Events in mono ``samples`` (n,), in order of time; empty for silence or less than one window of sound."""
    window, hop = int(_WINDOW_S * rate_hz), int(_HOP_S * rate_hz)
    if len(samples) < window:
        return []
    frequencies, _, spectrum = scipy.signal.stft(
        samples, fs=rate_hz, nperseg=window, noverlap=window - hop, boundary=None, padded=False
    )
    power = np.abs(spectrum) ** 2 + 1e-14
    # Loudness has a window of its own: the spectrum's would smear a 10 ms click over 40 ms.
    short = np.lib.stride_tricks.sliding_window_view(samples, hop)[::hop]
    loudness_db = 10 * np.log10(np.mean(short.astype(np.float64) ** 2, axis=1) + 1e-12)
    threshold = max(_FLOOR_DB, float(loudness_db.max()) - _RANGE_DB)
    events = []
    for start, end in _runs(loudness_db > threshold, int(_GAP_S / _HOP_S)):
        middle = np.s_[max(0, start - 1) : max(start, min(end - 2, power.shape[1]))]
        columns = power[:, middle] if power[:, middle].shape[1] else power[:, -1:]
        events.append(_event(columns, frequencies, start, end, float(loudness_db[start:end].max())))
    return events


def _runs(active: NDArray[np.bool_], gap: int) -> list[tuple[int, int]]:
    """Half-open runs of True, joined over gaps of at most ``gap`` frames."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if runs and start - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], int(end))
        else:
            runs.append((int(start), int(end)))
    return runs


def _event(
    power: NDArray[np.float64], frequencies: NDArray[np.float64], start: int, end: int, loudness_db: float
) -> SoundEvent:
    audible = frequencies > _AUDIBLE_HZ
    flatness = float(np.median(np.exp(np.log(power[audible]).mean(0)) / power[audible].mean(0)))
    peaks = frequencies[audible][power[audible].argmax(0)]
    length_s = (end - start) * _HOP_S
    kind: Kind
    pitch: float | None = None
    if flatness > _NOISE_FLATNESS:
        kind = "click" if length_s <= _CLICK_S else "noise"
    elif _is_speech_like(power[audible], frequencies[audible], length_s):
        kind = "speech-like"
    else:
        third = max(1, len(peaks) // 3)
        first, last = float(np.median(peaks[:third])), float(np.median(peaks[-third:]))
        kind = "tone"
        if length_s > _SWEEP_S and last > _SWEEP_RATIO * first:
            kind = "sweep up"
        elif length_s > _SWEEP_S and first > _SWEEP_RATIO * last:
            kind = "sweep down"
        pitch = float(np.median(peaks))
    return SoundEvent(kind=kind, start_s=start * _HOP_S, end_s=end * _HOP_S, loudness_db=loudness_db, pitch_hz=pitch)


def _is_speech_like(power: NDArray[np.float64], frequencies: NDArray[np.float64], length_s: float) -> bool:
    """Whether most energy lies in the band of voices, its level moving at syllable rate, its peak wandering."""
    if length_s < _SPEECH_S:
        return False
    total = power.sum(0)
    in_band = power[(frequencies > _VOICE_HZ[0]) & (frequencies < _VOICE_HZ[1])].sum() / power.sum()
    level = np.log(total) - np.log(total).mean()
    rates = np.fft.rfftfreq(len(level), _HOP_S)
    modulation = np.abs(np.fft.rfft(level * np.hanning(len(level)))) ** 2
    syllabic = modulation[(rates >= _SYLLABLES_HZ[0]) & (rates <= _SYLLABLES_HZ[1])].sum()
    moving = modulation[rates > _DRIFT_HZ].sum() + 1e-12
    peaks = frequencies[power.argmax(0)]
    wanders = np.std(np.log(peaks)) > _WANDER
    return bool(in_band > _VOICE_SHARE and syllabic / moving > _SYLLABLE_SHARE and wanders)


def describe(events: Sequence[SoundEvent]) -> str:
    """The events as one short line, like kinds gathered: ``high repeated tone x6 880 Hz 0.3-3.1 s loud``.

    Empty when there are none.
    """
    groups: list[list[SoundEvent]] = []
    for event in events:
        for group in groups:
            if group[0].kind == event.kind and _near(group[0].pitch_hz, event.pitch_hz):
                group.append(event)
                break
        else:
            groups.append([event])
    groups.sort(key=lambda g: -sum(e.end_s - e.start_s for e in g))
    parts = []
    for group in groups[:_MOST_GROUPS]:
        loudest = max(e.loudness_db for e in group)
        loud = "loud" if loudest > _LOUD_DB else "soft" if loudest < _SOFT_DB else "clear"
        pitch = "" if group[0].pitch_hz is None else f" {round(group[0].pitch_hz, -1):.0f} Hz"
        parts.append(f"{_name(group)} x{len(group)}{pitch} {group[0].start_s:.1f}-{group[-1].end_s:.1f} s {loud}")
    return "; ".join(parts)


def _name(group: Sequence[SoundEvent]) -> str:
    """The kind in words that part like things: a model reads ``low tone`` better than ``tone ... 90 Hz``."""
    name = group[0].kind
    if name == "tone":
        name_of_pitch = "low" if (group[0].pitch_hz or 0) < _LOW_HZ else "high"
        return f"{name_of_pitch} {'repeated ' if len(group) > 2 else ''}tone"
    return f"repeated {name}" if len(group) > 2 else name


def _near(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return _SAME_PITCH[0] < a / b < _SAME_PITCH[1]
