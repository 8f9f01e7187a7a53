"""Spectral gate: bands pass while they are above the noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source
from flywheel.sound.actions._spectral import HOP_S, Spectrum, filtered

#: The mask is smoothed over so much time, and so many bands either way.
_SMOOTH_S, _SMOOTH_BANDS = 0.04, 2


def _edit(source: Source, *, above: float, floor_db: float) -> Iterator[Samples]:
    """Bands whose power is above mean + ``above`` standard deviations of the noise pass, the others by ``floor_db``.

    The power of noise is exponentially distributed: its standard deviation is its mean.
    """
    least = np.float32(10 ** (floor_db / 20))
    size = (2 * max(1, round(_SMOOTH_S / HOP_S / 2)) + 1, 2 * _SMOOTH_BANDS + 1)

    def gains(power: Spectrum, noise: Spectrum) -> Spectrum:
        smooth = scipy.ndimage.uniform_filter(power, size)
        passing = (smooth > np.float32(1 + above) * noise).astype(np.float32)
        amplitude: Spectrum = np.maximum(scipy.ndimage.uniform_filter(passing, size), least)
        return amplitude

    return filtered(source, gains)


ACTION = Action(
    family="filter",
    does="closes each band while it is no louder than a steady noise",
    parameters={"above": Range(1.0, 2.5, 1.5, "standard deviations"), "floor_db": Range(-60.0, -10.0, -30.0, "dB")},
    edit=_edit,
)
