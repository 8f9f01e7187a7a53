"""Sound where it was cut out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.sound.actions._action import Action, Range
from flywheel.sound.actions._source import Samples, Source, local
from flywheel.sound.gaps import gaps

#: What goes on in a gap is told from so much sound on each side, by a linear prediction of this order.
_AROUND_S, _ORDER = 0.1, 64
#: Added to the power, so that a pure tone's prediction stays one that decays.
_NOISE_SHARE = 1e-6


def _edit(source: Source, *, longest_s: float) -> Iterator[Samples]:
    """Gaps (:func:`gaps`) filled with what their neighbours go on as, from both sides, one fading into the other.

    Linear prediction driven by noise as strong as its errors (Kauppinen and Roth 2002): tones go on and decay, noise
    goes on as noise of the same colour, and at neither end there is a step.
    """

    def filled(samples: Samples) -> Samples:
        out = samples.copy()
        for start, stop in gaps(samples, source.rate_hz, longest_s=longest_s):
            for channel in range(out.shape[1]):
                out[start:stop, channel] = _between(samples[:, channel], start, stop, source.rate_hz)
        return out

    return local(source, filled, margin_s=longest_s + 2 * _AROUND_S, fade_s=0.0)


def _between(samples: NDArray[np.float32], start: int, stop: int, rate_hz: int) -> NDArray[np.float32]:
    """What goes in [start, stop)."""
    around, length = round(_AROUND_S * rate_hz), stop - start
    ahead = _continued(samples[max(0, start - around) : start], length)
    back = _continued(samples[stop : stop + around][::-1], length)[::-1]
    turn = (np.arange(length) + 0.5) / length * np.pi / 2
    # The two are not in step: their powers add up, not their amplitudes.
    filled: NDArray[np.float32] = (ahead * np.cos(turn) + back * np.sin(turn)).astype(np.float32)
    return filled


def _continued(samples: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """``length`` samples that go on from these; silence from fewer than five."""
    order = min(_ORDER, len(samples) // 2 - 1)
    known = samples.astype(np.float64)
    if order < 1 or not np.any(known):
        return np.zeros(length)
    windowed = known * scipy.signal.get_window("hann", len(known), fftbins=False)
    alike = scipy.signal.correlate(windowed, windowed, method="fft")[len(known) - 1 :][: order + 1]
    alike[0] *= 1 + _NOISE_SHARE
    if alike[0] <= 0:
        return np.zeros(length)
    predictor = scipy.linalg.solve_toeplitz(alike[:order], alike[1:])
    error = max(0.0, float(alike[0] - predictor @ alike[1:])) / float(np.sum((windowed / (np.abs(known) + 1e-30)) ** 2))
    # The same each time: an edit is a function of its sound.
    noise = np.random.default_rng(length).normal(0, np.sqrt(error), length)
    taps = np.concatenate(([1.0], -predictor))
    state = scipy.signal.lfiltic([1.0], taps, known[::-1][:order])
    return np.asarray(scipy.signal.lfilter([1.0], taps, noise, zi=state)[0])


ACTION = Action(
    family="coordination",
    does="fills gaps in which the sound was cut out, with what goes on beside them",
    parameters={"longest_s": Range(0.02, 2.0, 0.5, "s")},
    edit=_edit,
)
