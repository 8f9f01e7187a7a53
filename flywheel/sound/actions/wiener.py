"""Wiener filtering with the decision-directed estimate of what is signal (Ephraim and Malah 1984)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source
from flywheel.sound.actions._spectral import Spectrum, filtered


def _edit(source: Source, *, smoothing: float, floor_db: float) -> Iterator[Samples]:
    r"""Gain $G = \xi / (1 + \xi)$, no less than a floor.

    $\xi_t = a\,G_{t-1}^2 \gamma_{t-1} + (1 - a) \max(\gamma_t - 1, 0)$ is signal over noise,
    $\gamma = P / N$ is power over noise, $a$ the ``smoothing``: the nearer to 1, the fewer single bands ring out, and
    the later a beginning is let through.
    """
    keep, least = np.float32(smoothing), np.float32(10 ** (floor_db / 20))

    def gains(power: Spectrum, noise: Spectrum) -> Spectrum:
        ratio = power / noise
        fresh = (1 - keep) * np.maximum(ratio - 1, 0)
        out = np.empty_like(ratio)
        before = fresh[0] / (1 - keep) if len(fresh) else fresh
        for time in range(len(ratio)):
            prior = keep * before + fresh[time]
            gain = prior / (1 + prior)
            before = gain * gain * ratio[time]
            out[time] = gain
        return np.maximum(out, least)

    return filtered(source, gains)


ACTION = Action(
    family="filter",
    does="lets through of each band what is likely signal, by the least mean square error",
    parameters={"smoothing": Range(0.9, 0.99, 0.97), "floor_db": Range(-40.0, -10.0, -25.0, "dB")},
    edit=_edit,
)
