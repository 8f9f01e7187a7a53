"""Spectrograms with bands that lie evenly on a logarithmic or a mel scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

#: Powers below this are silence: a sine of amplitude 1 has some 0.1.
_FLOOR = 1e-8


@dataclass(frozen=True, kw_only=True)
class SpectrogramShape:
    """Bands x times of a clip's sound, whatever its length; the short-time transform that they are made of.

    VLSA's (arXiv 2405.07202, 4.1): 11 kHz, window 1022, hop 256, 256 x 256 bands and times on a log-frequency scale.
    """

    bands: int
    times: int
    rate_hz: int = 16_000
    window: int = 512
    hop: int = 160
    lowest_hz: float = 60.0
    scale: Literal["log", "mel"] = "log"


def spectrograms(samples_BS: Tensor, shape: SpectrogramShape) -> Tensor:
    """Log powers ``(B, bands, times)`` float32, about in [-1, 1]; silence is -1 everywhere.

    Raises ValueError for samples that are no numbers; sounds shorter than a window are padded with silence.
    """
    if samples_BS.ndim != 2:
        raise ValueError(f"sound: need mono samples (B, S), got {tuple(samples_BS.shape)}")
    if not torch.isfinite(samples_BS).all():
        raise ValueError("sound: need numbers as samples, got nan or infinity")
    samples = samples_BS.float()
    # Each time needs a column of its own.
    least = max(shape.window, shape.hop * (shape.times - 1) + 1)
    if samples.shape[1] < least:
        samples = torch.nn.functional.pad(samples, (0, least - samples.shape[1]))
    window = torch.hann_window(shape.window, device=samples.device)
    spectrum = torch.stft(
        samples, shape.window, shape.hop, window=window, pad_mode="constant", center=True, return_complex=True
    )
    power = spectrum.abs().square() / window.sum() ** 2
    banded = _filters(shape).to(samples.device) @ power
    pooled = torch.nn.functional.adaptive_avg_pool1d(banded, shape.times)
    return pooled.clamp_min(_FLOOR).log10() / (-math.log10(_FLOOR) / 2) + 1


@lru_cache(maxsize=8)
def _filters(shape: SpectrogramShape) -> Tensor:
    """Triangles ``(bands, window / 2 + 1)`` over the frequencies, each with sum 1."""
    frequency = torch.linspace(0, shape.rate_hz / 2, shape.window // 2 + 1)
    low, high = (_scaled(hz, shape.scale) for hz in (shape.lowest_hz, shape.rate_hz / 2))
    edges = torch.linspace(low, high, shape.bands + 2)
    places = torch.tensor([_scaled(max(float(hz), 1.0), shape.scale) for hz in frequency])
    rise = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rise, fall).clamp_min(0)
    # A band that lies between two frequencies of the transform takes the nearest one.
    empty = triangles.sum(1) == 0
    nearest = (places[None] - edges[1:-1, None]).abs().argmin(1)
    triangles[empty, nearest[empty]] = 1
    return triangles / triangles.sum(1, keepdim=True)


def _scaled(hz: float, scale: str) -> float:
    return math.log(hz) if scale == "log" else 2595 * math.log10(1 + hz / 700)
