"""Wavelet denoising by soft thresholds (Donoho and Johnstone 1994), Daubechies 8 as a filter bank of scipy's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source, local

#: Daubechies' scaling filter with eight vanishing moments (Ten Lectures on Wavelets, 1992, table 6.1).
_LOW = np.array(
    [
        0.05441584224310401,
        0.31287159091429995,
        0.6756307362972898,
        0.5853546836542067,
        -0.015829105256349306,
        -0.2840155429615469,
        0.0004724845739132828,
        0.12874742662047847,
        -0.017369301001807547,
        -0.044088253930794755,
        0.013981027917398282,
        0.008746094047405777,
        -0.004870352993451574,
        -0.00039174037337694705,
        0.0006754494064505693,
        -0.00011747678412476953,
    ],
    dtype=np.float32,
)
_HIGH = (_LOW[::-1] * np.where(np.arange(16) % 2, -1, 1)).astype(np.float32)
_TAPS = len(_LOW)
#: The median of a normal distribution's absolute values.
_MEDIAN = 0.6745
_MARGIN_S, _FADE_S = 0.5, 0.1


def _edit(source: Source, *, levels: int, strength: float) -> Iterator[Samples]:
    r"""Details $d$ of each level become $\mathrm{sign}(d) \max(|d| - t, 0)$, $t = s\,\sigma \sqrt{2 \ln n}$.

    $\sigma$ is the median of $|d|$ over .6745, of each level and channel by itself; $s$ the ``strength``: 1 is
    the universal threshold, which takes much of the signal too. The coarsest level is left as it is.
    """
    return local(source, lambda samples: _denoised(samples, levels, strength), margin_s=_MARGIN_S, fade_s=_FADE_S)


def _denoised(samples: Samples, levels: int, strength: float) -> Samples:
    step, length = 2**levels, len(samples)
    if length < 2 * step:
        return samples
    # Mirrored at both ends: the bank takes the end for the beginning's neighbour, and a step there would ring.
    before = min(_TAPS * step, length - 1)
    whole = np.pad(samples, ((before, before + -(length + 2 * before) % step), (0, 0)), mode="reflect")
    rest, details = whole, []
    for _ in range(levels):
        rest, detail = split(rest)
        spread = np.median(np.abs(detail), axis=0) / _MEDIAN
        threshold = (strength * spread * np.sqrt(2 * np.log(len(detail)))).astype(np.float32)
        details.append(np.sign(detail) * np.maximum(np.abs(detail) - threshold, 0))
    for detail in reversed(details):
        rest = joined(rest, detail)
    return rest[before : before + length]


def split(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One level of the transform of (n, channels), n even, the end before the beginning: coarse and detail, n / 2."""
    half = len(samples) // 2
    around = np.concatenate((np.zeros_like(samples[:1]), samples, np.resize(samples, (_TAPS, samples.shape[1]))))
    low, high = (
        scipy.signal.upfirdn(taps[::-1], around, down=2, axis=0)[_TAPS // 2 : _TAPS // 2 + half]
        for taps in (_LOW, _HIGH)
    )
    return low, high


def joined(coarse: NDArray[np.float32], detail: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`split` took apart (n, channels); n is at least 16."""
    length = 2 * len(coarse)
    whole = scipy.signal.upfirdn(_LOW, coarse, up=2, axis=0) + scipy.signal.upfirdn(_HIGH, detail, up=2, axis=0)
    out: NDArray[np.float32] = whole[:length]
    out[: len(whole) - length] += whole[length:]
    return out


ACTION = Action(
    family="filter",
    does="takes small wavelet coefficients away: for white noise",
    parameters={"levels": Range(5, 7, 7), "strength": Range(0.5, 1.5, 0.6)},
    edit=_edit,
)
