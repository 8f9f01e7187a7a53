"""Keeps a sound below full scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy

from flywheel.sound.actions._source import Samples

#: Half the time over which the level gives way to a peak, and comes back.
_REACH_S = 0.005
#: Peaks above full scale are brought to this.
_CEILING = 0.98


def limited(blocks: Iterable[Samples], rate_hz: int) -> Iterator[Samples]:
    """The blocks (n, channels), no sample above full scale; what is far from such peaks is as it was.

    Ahead of a peak the level falls, and after it rises, over 5 ms, in all channels alike: no corner is cut off.
    """
    reach = max(1, round(_REACH_S * rate_hz))
    held: Samples | None = None
    context = 0
    for block in blocks:
        held = block if held is None else np.concatenate((held, block))
        ready = len(held) - 2 * reach
        if ready > context:
            yield _quieter(held, reach)[context:ready]
            held, context = held[max(0, ready - 2 * reach) :], min(ready, 2 * reach)
    if held is not None:
        yield _quieter(held, reach)[context:]


def _quieter(samples: Samples, reach: int) -> Samples:
    peaks = np.abs(samples).max(axis=1) if samples.size else np.zeros(0, np.float32)
    if not np.any(peaks > 1):
        return samples
    gain = np.where(peaks > 1, _CEILING / np.maximum(peaks, 1), 1)
    # The least within reach, averaged over as long: never above what a peak needs, and without a step.
    least = scipy.ndimage.minimum_filter1d(gain, 2 * reach + 1, mode="constant", cval=1.0)
    smooth = scipy.ndimage.uniform_filter1d(np.pad(least, reach, mode="edge"), 2 * reach + 1)[reach:-reach]
    quieter: Samples = (samples * np.minimum(smooth, 1)[:, None]).astype(np.float32)
    return quieter
