"""Small rendered clips for tests: a ball that bounces between walls, and tones that decay from each impact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000


def impacts(seed: int, length_s: float = 6.0) -> NDArray[np.float64]:
    """Times of impacts, at uneven distances."""
    rng = np.random.default_rng([seed, 1])
    times = np.cumsum(rng.uniform(0.35, 1.1, 40)) + rng.uniform(0, 0.4)
    return times[times < length_s - 0.3]


def picture(
    at_s: NDArray[np.float64], times_s: NDArray[np.float64], seed: int = 0, *, height: int = 36, width: int = 64
) -> NDArray[np.uint8]:
    """Grey frames (T, H, W): a disc that turns at each impact, moving evenly between them, on a noisy ground."""
    rng = np.random.default_rng([seed, 2])
    turns = np.concatenate(([-0.5], at_s, [at_s[-1] + 0.7 if len(at_s) else 1.0, 1e3]))
    place = np.interp(times_s, turns, np.arange(len(turns)) % 2)
    rows, columns = np.mgrid[:height, :width]
    ground = rng.integers(30, 90) + rng.normal(0, 6, (height, width))
    centre = width / 8 + place * width * 3 / 4
    middle = height / 2 + rng.uniform(-6, 6) * height / 36
    radius = rng.uniform(4, 8) * height / 36
    away = np.hypot(columns[None] - centre[:, None, None], rows[None] - middle)
    cover = np.clip(radius - away + 0.5, 0, 1)
    frames = ground * (1 - cover) + rng.integers(160, 250) * cover
    return np.clip(frames + rng.normal(0, 1.5, frames.shape), 0, 255).astype(np.uint8)


def tones(
    at_s: NDArray[np.float64], seed: int = 0, *, length_s: float = 6.0, rate_hz: int = RATE_HZ, noise: float = 0.003
) -> NDArray[np.float32]:
    """Mono samples (n,): a tone that decays from each of these times, in soft noise."""
    rng = np.random.default_rng([seed, 3])
    out = rng.normal(0, noise, int(length_s * rate_hz))
    pitch, decay = rng.uniform(200, 1200), rng.uniform(6, 20)
    for time in at_s:
        begin = round(time * rate_hz)
        if 0 <= begin < len(out):
            t = np.arange(min(len(out) - begin, rate_hz)) / rate_hz
            out[begin : begin + len(t)] += 0.4 * np.exp(-decay * t) * np.sin(2 * np.pi * pitch * t)
    return out.astype(np.float32)
