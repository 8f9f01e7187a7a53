"""Damage planted in a sound, each kind with the edit that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from flywheel.playground.av.timeline import DURATION_S, Timeline
from flywheel.sound import actions

#: Kinds of damage, equally likely. None is of pitch: nothing in a clip tells what pitch a thing had.
DAMAGES = ("hiss", "hum", "quiet", "gap", "late", "fast")
#: Noise is as much softer than the sound, in decibels of power over the clip.
_SNR_DB = (0.0, 8.0)
#: Tones of a hum: multiples of the mains frequency with their amplitudes, and the noise beside them.
_MAINS_HZ, _OVERTONES, _BESIDE = (50.0, 60.0), (1, 2, 3, 5), 0.3
_QUIET_DB = (12.0, 18.0)
_GAP_S = (0.06, 0.2)
#: Shifted sounds stay so far within the clip.
_LATE_S, _EDGE_S = (0.2, 1.0), 0.05
_FAST = (0.05, 0.1)
#: What is louder than the clip's loudest moment less so much sounds, in blocks this long.
_RANGE_DB, _BLOCK_S = 20.0, 0.02


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What was done to a sound, and the action that mends it with the values that undo it best."""

    kind: str
    action: str
    parameters: Mapping[str, float]


def damage(
    sound: NDArray[np.float32], timeline: Timeline, kind: str, rng: np.random.Generator, rate_hz: int
) -> tuple[NDArray[np.float32], Damage]:
    """The samples (n,) with one kind of damage, and what it was; the random numbers decide how much.

    hiss: white noise. hum: mains and overtones, with some hiss. quiet: 12 to 18 dB softer. gap: cut out for 60 to
    200 ms while something sounds. late: .2 to 1 s late or early, nothing lost. fast: 5 to 10 % fast or slow.
    Which filter mends a noise best was measured (experiments/repair). Raises ValueError for another kind.
    """
    match kind:
        case "hiss" | "hum":
            noisy = sound + _noise(kind, sound, rng, rate_hz)
            return _whole(noisy), _mended(kind, "spectral_gate" if kind == "hiss" else "wiener")
        case "quiet":
            db = float(rng.uniform(*_QUIET_DB))
            return actions.build("gain", db=-db)(sound, rate_hz), _mended(kind, "gain", db=db)
        case "gap":
            return _cut(sound, rng, rate_hz), _mended(kind, "fill")
        case "late":
            seconds = _offset_s(timeline, rng)
            return actions.build("shift", seconds=seconds)(sound, rate_hz), _mended(kind, "shift", seconds=-seconds)
        case "fast":
            rate = 1 + float(rng.choice([-1, 1]) * rng.uniform(*_FAST))
            return actions.build("speed", rate=rate)(sound, rate_hz), _mended(kind, "speed", rate=1 / rate)
    raise ValueError(f"playground: unknown damage {kind!r}; there are {', '.join(DAMAGES)}.")


def _mended(kind: str, action: str, **parameters: float) -> Damage:
    rounded = {name: round(value, 4) for name, value in parameters.items()}
    return Damage(kind=kind, action=action, parameters=MappingProxyType(rounded))


def _noise(kind: str, sound: NDArray[np.float32], rng: np.random.Generator, rate_hz: int) -> NDArray[np.float64]:
    noise = rng.normal(size=len(sound))
    if kind == "hum":
        turns = 2 * np.pi * float(rng.choice(_MAINS_HZ)) * np.arange(len(sound)) / rate_hz
        phases = rng.uniform(0, 2 * np.pi, len(_OVERTONES))
        noise = _BESIDE * noise + sum(np.sin(k * turns + p) / k for k, p in zip(_OVERTONES, phases, strict=True))
    power = float(np.mean(np.square(sound, dtype=np.float64))) / 10 ** (float(rng.uniform(*_SNR_DB)) / 10)
    scaled: NDArray[np.float64] = noise * np.sqrt(power / np.mean(noise**2))
    return scaled


def _cut(sound: NDArray[np.float32], rng: np.random.Generator, rate_hz: int) -> NDArray[np.float32]:
    """The sound with silence where something sounded just before."""
    block, length = round(_BLOCK_S * rate_hz), round(float(rng.uniform(*_GAP_S)) * rate_hz)
    power = np.square(sound[: len(sound) // block * block].reshape(-1, block), dtype=np.float64).mean(axis=1)
    inside = power[: max(1, (len(sound) - length) // block - 1)]
    start = (int(rng.choice(np.flatnonzero(inside >= inside.max() * 10 ** (-_RANGE_DB / 10)))) + 1) * block
    out = sound.copy()
    out[start : start + length] = 0
    return out


def _offset_s(timeline: Timeline, rng: np.random.Generator) -> float:
    first = min(sound.times_s[0] for sound in timeline.sounds)
    last = max(sound.times_s[-1] + sound.hold_s for sound in timeline.sounds)
    room = {-1: first - _EDGE_S, 1: DURATION_S - _EDGE_S - last}
    sign = int(rng.choice([sign for sign, most in room.items() if most >= _LATE_S[0]]))
    return sign * float(rng.uniform(_LATE_S[0], min(_LATE_S[1], room[sign])))


def _whole(sound: NDArray[np.floating]) -> NDArray[np.float32]:
    """The sound with its level brought down where it would pass full scale."""
    whole: NDArray[np.float32] = (sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32)
    return whole
