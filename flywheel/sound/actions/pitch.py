"""Higher or lower at the same times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source
from flywheel.sound.actions._warp import played

#: Grains come so often, and last twice as long; each is looked for so far from where it belongs.
_HOP_S, _REACH_S = 0.02, 0.01


def _edit(source: Source, *, semitones: float) -> Iterator[Samples]:
    """The sound with each pitch $2^{semitones / 12}$ times as high, and everything at its time within 10 ms.

    Overlap-add of grains that fit what is before them best (WSOLA, Verhelst and Roelands 1993), taken from the sound as
    it plays at that speed.
    """
    if semitones == 0:
        yield from (source.take(start, stop) for start, stop in source.spans())
        return
    speed, hop, reach = 2 ** (semitones / 12), max(2, round(_HOP_S * source.rate_hz)), round(_REACH_S * source.rate_hz)
    window = scipy.signal.get_window("hann", 2 * hop).astype(np.float32)[:, None]
    due: int | None = None
    tail: Samples | None = None
    for start, stop in source.spans(hop):
        count = -(-(stop - start) // hop)
        low = round((start - hop) / speed) - 2 * reach - 3 * hop
        high = round((start + count * hop) / speed) + 2 * reach + 3 * hop
        faster = played(source, low, high, speed=speed)
        mono = faster.mean(axis=1)
        out = np.zeros(((count + 1) * hop, faster.shape[1]), dtype=np.float32)
        if tail is not None:
            out[:hop] = tail
        # The first block begins with the second half of a grain that lies before it.
        for grain in range(-1 if tail is None else 0, count):
            place = round((start + grain * hop) / speed) - low
            if due is not None:
                place = _best(mono, place, due - low, hop, reach)
            piece = faster[place : place + 2 * hop] * window
            at = grain * hop
            out[max(0, at) : at + 2 * hop] += piece[max(0, -at) :]
            due = low + place + hop
        tail = out[count * hop :].copy()
        yield out[: stop - start]


def _best(mono: np.ndarray, place: int, due: int, hop: int, reach: int) -> int:
    """Where within ``reach`` of ``place`` the sound is most like what would go on at ``due``."""
    wanted = mono[due : due + hop]
    around = mono[place - reach : place + reach + hop]
    alike = scipy.signal.correlate(around, wanted, mode="valid", method="fft")
    if not alike.any():
        return place
    power = np.cumsum(np.concatenate(([0.0], np.square(around, dtype=np.float64))))
    return place - reach + int(np.argmax(alike / np.sqrt(power[hop:] - power[:-hop] + 1e-9)))


ACTION = Action(
    family="coordination",
    does="makes all pitches higher (above 0) or lower, at the same times",
    parameters={"semitones": Range(-12.0, 12.0, 0.0, "semitones")},
    edit=_edit,
)
