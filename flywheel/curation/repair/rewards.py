"""Rewards of a sound beside its picture, each in [0, 1] as the corpus calibrates it.

Synchrony asks how strongly onsets and events go together; agreement, how many of either have a counterpart; quality is
a third one, for edits that move nothing in time. None is what evaluates repairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.curation.repair.measures import Picture
from flywheel.curation.repair.quality import QUALITY, Quality
from flywheel.curation.repair.scales import FULL, Scale
from flywheel.sound.fit import together
from flywheel.sound.onsets import TRACK_HZ, onset_envelope
from flywheel.sound.synchrony import TOGETHER_S, standing_out, visual_track

#: An onset or an event is a peak of at least this share of the highest one, so far from the next.
_LEAST_PEAK, _APART_S = 0.25, 0.1
#: A scale must be this long. One match more among twenty onsets and twenty events moves agreement by as much: with a
#: shorter one a chance match is worth full marks.
LEAST_SPAN = 0.05


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The rewards by name, as :func:`calibrated` made them.

    ``falls`` says by how much each may fall by chance. Without ``quality`` there is no such reward.
    """

    scales: Mapping[str, Scale]
    quality: Quality | None = None
    falls: Mapping[str, float] = field(default_factory=dict)

    @property
    def tell(self) -> bool:
        """Whether each tells clips as they came from pairs that were made wrong: else a rise says nothing."""
        return all(scale.full - scale.none >= LEAST_SPAN for scale in self.scales.values())

    def of(self, samples: NDArray[np.float32], rate_hz: int, picture: Picture) -> dict[str, float]:
        """Each reward, in [0, 1], of mono samples (n,)."""
        values = {name: self.scales[name].of(value) for name, value in raw(samples, rate_hz, picture).items()}
        return values if self.quality is None else {**values, QUALITY: self.quality.of(samples, rate_hz)}


def raw(samples: NDArray[np.float32], rate_hz: int, picture: Picture) -> dict[str, float]:
    """``synchrony``: correlation at no offset; ``agreement``: F1 of onsets and events within 80 ms of each other."""
    onsets = onset_envelope(samples, rate_hz)
    return {
        "synchrony": together(onsets, picture.events, picture.times_s),
        "agreement": _agreement(onsets, picture),
    }


def calibrated(own: Sequence[Mapping[str, float]], wrong: Sequence[Mapping[str, float]]) -> Rewards:
    """Rewards from :func:`raw` of clips as they came, and of pairs made wrong on purpose, whose median is 0.

    Raises ValueError where there are none of either.
    """
    if not own or not wrong:
        raise ValueError("rewards: need clips, and pairs that were made wrong, to calibrate by")
    scales = {
        name: Scale(
            none=float(np.median([row[name] for row in wrong])),
            full=float(np.quantile([row[name] for row in own], FULL)),
        )
        for name in own[0]
    }
    return Rewards(scales=MappingProxyType(scales))


def falls(
    own: Sequence[Mapping[str, float]], disturbed: Sequence[Mapping[str, float]], scales: Mapping[str, Scale]
) -> dict[str, float]:
    """By how much each reward may fall by chance: what most clips' fall does not pass, or one match, if that is more.

    ``disturbed`` are :func:`raw` of the same clips after a change that hardly anybody minds.
    """
    out = {}
    for name, scale in scales.items():
        lost = [scale.of(before[name]) - scale.of(after[name]) for before, after in zip(own, disturbed, strict=True)]
        one_match = LEAST_SPAN / max(scale.full - scale.none, LEAST_SPAN)
        out[name] = max(float(np.quantile(lost, FULL)), one_match)
    return out


def _agreement(onsets: NDArray[np.float32], picture: Picture) -> float:
    """Twice the matches over onsets and events together; 0 where there are none of either."""
    if len(onsets) < 2 or len(picture.times_s) < 2:
        return 0.0
    heard = _peaks(standing_out(onsets))
    seen = _peaks(standing_out(visual_track(picture.events, picture.times_s, len(onsets))))
    if not len(heard) or not len(seen):
        return 0.0
    near = np.abs(heard[:, None] - seen) <= TOGETHER_S * TRACK_HZ
    rows, columns = scipy.optimize.linear_sum_assignment(~near)
    return float(2 * near[rows, columns].sum() / (len(heard) + len(seen)))


def _peaks(track: NDArray[np.float32]) -> NDArray[np.int64]:
    highest = float(track.max(initial=0))
    if highest <= 0:
        return np.zeros(0, dtype=np.int64)
    found: NDArray[np.int64] = scipy.signal.find_peaks(
        track, height=_LEAST_PEAK * highest, distance=max(1, int(_APART_S * TRACK_HZ))
    )[0]
    return found
