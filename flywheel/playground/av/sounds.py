"""The sound of a timeline, as samples: ten kinds, low and high, over a bed of noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.playground.av.timeline import DURATION_S, Sound, Timeline

Samples = NDArray[np.floating[Any]]

SAMPLE_RATE = 16_000
#: Seconds in which a held tone begins and ends, so that it doesn't click.
_ATTACK_S, _RELEASE_S = 0.004, 0.02
#: Hz of low sounds; high ones lie an octave above.
_HZ = {"beep": 540, "bounce": 95, "bell": 430, "knock": 260, "hum": 100, "rumble": 95, "rise": 420, "fall": 420}
#: Bands of noise in Hz.
_BANDS = {
    ("tick", "low"): (900, 2200),
    ("tick", "high"): (3200, 6500),
    ("hiss", "low"): (500, 2000),
    ("hiss", "high"): (3500, 7500),
    ("rumble", "low"): (60, 125),
    ("rumble", "high"): (160, 330),
}
_RING_S = 0.7


def sound(timeline: Timeline, rate_hz: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Mono samples (n,) in [-1, 1] of the whole clip; zeros where it has no track.

    Each sound begins at the sample nearest to its time.
    """
    rng = np.random.default_rng([timeline.seed, 15485863])
    out = np.zeros(round(DURATION_S * rate_hz))
    if not timeline.has_track:
        return out.astype(np.float32)
    for event in timeline.sounds:
        for time_s in event.times_s:
            start = round(time_s * rate_hz)
            wave = event.gain * one(event, rng, rate_hz)[: len(out) - start]
            out[start : start + len(wave)] += wave
    out += _ambience(timeline, rng, rate_hz)
    return np.clip(out, -1, 1).astype(np.float32)


def one(event: Sound, rng: np.random.Generator, rate_hz: int) -> Samples:
    """A single sound of an event, from its onset on; its peak is near 1."""
    held = np.arange(round(event.hold_s * rate_hz)) / rate_hz
    ringing = np.arange(round(_RING_S * rate_hz)) / rate_hz
    hz = _HZ.get(event.kind, 0) * (2.0 if event.pitch == "high" else 1.0) * event.tuning
    bright = event.brightness
    match event.kind:
        case "beep":
            return _gated(_partials(hz, held, (1.0, 0.0, bright)), rate_hz)
        case "hum":
            falling = 2.2 - 1.6 * bright
            return _gated(_partials(hz, held, [k**-falling for k in range(1, 8)]), rate_hz)
        case "bell":
            tones = zip((1.0, 2.76, 5.4), (1.0, 0.3 + 0.6 * bright, 0.4 * bright), strict=True)
            waves = [
                a * np.sin(2 * np.pi * hz * k * ringing) * _fading(ringing, 0.22 / k**0.5, event) for k, a in tones
            ]
            return _peak(np.sum(waves, axis=0))
        case "bounce":
            # A drum's head: the pitch falls as the blow wears off.
            phase = hz * (ringing - 0.02 * np.expm1(-ringing / 0.02))
            thump = np.sin(2 * np.pi * phase) * _fading(ringing, 0.07, event)
            return _peak(thump + 0.4 * bright * _burst(ringing, 0.003, rng))
        case "knock":
            wood = np.sin(2 * np.pi * hz * ringing) + (0.3 + 0.6 * bright) * np.sin(2 * np.pi * 2.6 * hz * ringing)
            return _peak(wood * _fading(ringing, 0.022, event) + 0.5 * _burst(ringing, 0.004, rng))
        case "tick":
            return _peak(_noise(event, len(ringing), rng, rate_hz) * _fading(ringing, 0.008, event))
        case "hiss":
            return _gated(_noise(event, len(held), rng, rate_hz), rate_hz)
        case "rumble":
            throb = 1 + (0.3 + 0.5 * bright) * np.cos(2 * np.pi * 14 * held)
            # Deep noise swells slowly; the jolt is what one hears begin.
            jolt = np.sin(2 * np.pi * hz * held) * np.exp(-held / 0.04)
            return _gated(_noise(event, len(held), rng, rate_hz) * throb + jolt, rate_hz)
        case "rise" | "fall":
            swept = held if event.kind == "rise" else held[::-1]
            rate = math.log(2.0) / event.hold_s
            phase = hz / rate * np.exp(rate * swept) * (1 if event.kind == "rise" else -1)
            return _gated(np.sin(2 * np.pi * phase) + 0.35 * bright * np.sin(4 * np.pi * phase), rate_hz)
    raise ValueError(f"playground: unknown sound {event.kind!r}")


def _partials(hz: float, t: Samples, weights: tuple[float, ...] | list[float]) -> Samples:
    waves = [weight * np.sin(2 * np.pi * hz * k * t) for k, weight in enumerate(weights, start=1) if weight]
    return np.asarray(np.sum(waves, axis=0))


def _fading(t: Samples, seconds: float, event: Sound) -> Samples:
    return np.asarray(np.exp(-t / (seconds * event.decay)))


def _burst(t: Samples, seconds: float, rng: np.random.Generator) -> Samples:
    return np.asarray(rng.normal(size=len(t)) * np.exp(-t / seconds) / 2)


def _noise(event: Sound, count: int, rng: np.random.Generator, rate_hz: int) -> Samples:
    """Noise of the event's band; bright sounds reach farther up in it."""
    low, high = _BANDS[event.kind, event.pitch]
    spectrum = np.fft.rfft(rng.normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / rate_hz) / event.tuning
    tilt = np.clip(hz / high, 1e-3, 1) ** (event.brightness - 0.4)
    spectrum *= np.where((hz >= low) & (hz <= high), tilt, 0.0)
    wave = np.fft.irfft(spectrum, count)
    return np.asarray(wave / (np.sqrt(np.mean(wave**2)) * 2.5 + 1e-12))


def _gated(wave: Samples, rate_hz: int) -> Samples:
    t = np.arange(len(wave)) / rate_hz
    edges = np.minimum(t / _ATTACK_S, (t[-1] - t) / _RELEASE_S)
    return _peak(wave * np.clip(edges, 0, 1))


def _peak(wave: Samples) -> Samples:
    return np.asarray(wave / (np.abs(wave).max() + 1e-12))


def _ambience(timeline: Timeline, rng: np.random.Generator, rate_hz: int) -> Samples:
    """Noise whose spectrum falls by the world's slope above 60 Hz."""
    count = round(DURATION_S * rate_hz)
    slope = timeline.world.ambience_slope
    if not slope:
        return np.asarray(timeline.ambience * rng.normal(size=count))
    hz = np.fft.rfftfreq(count, 1 / rate_hz)
    wave = np.fft.irfft(np.fft.rfft(rng.normal(size=count)) / np.maximum(hz, 60.0) ** slope, count)
    return np.asarray(timeline.ambience * wave / np.sqrt(np.mean(wave**2)))
