"""The reward for edits that move nothing in time: how far a sound is from one that was spoiled on purpose.

Two figures: noise below what sounds, and peaks beside what is usual. A sound is as good as the worse of them. Clipping
and band are none: no action here mends them, and what hides them (a softer or duller sound) would be paid for. Nor is
what was cut out: filling counts as mended by whatever it is filled with. Quality is not what evaluates repairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.curation.repair.measures import Norms, peak_db
from flywheel.curation.repair.scales import FULL, Scale
from flywheel.sound.onsets import cleaned
from flywheel.sound.quality import sound_quality

#: Its name among the rewards.
QUALITY = "quality"
#: A clip that is so much too soft, dB, is worth nothing.
_SOFT_DB = 15.0
#: A scale of noise must be so long, dB: where most clips are as noisy as those that were spoiled, it tells nothing.
_LEAST_DB = 6.0
#: Where peaks differ so much among clips as they came, dB, they do not tell what is too soft.
_MOST_OFF_DB = _SOFT_DB / 2


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Scales of the figures by name, those that tell something here, and the usual peak, in dB of full scale."""

    scales: Mapping[str, Scale]
    usual_peak_db: float

    def of(self, samples: NDArray[np.float32], rate_hz: int) -> float:
        """The lower share of full marks, in [0, 1], of mono samples (n,); 1 where no figure tells anything."""
        return self.of_figures(figures(samples, rate_hz))

    def of_figures(self, of: Mapping[str, float]) -> float:
        """As :meth:`of`, from :func:`figures`."""
        values = {**of, "level": -abs(of["peak_db"] - self.usual_peak_db)}
        return min((scale.of(values[name]) for name, scale in self.scales.items()), default=1.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "usual_peak_db": self.usual_peak_db,
            "scales": {name: asdict(scale) for name, scale in self.scales.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Quality:
        """What :meth:`to_json` made."""
        scales = {name: Scale(**scale) for name, scale in told["scales"].items()}
        return cls(scales=MappingProxyType(scales), usual_peak_db=told["usual_peak_db"])


def figures(samples: NDArray[np.float32], rate_hz: int) -> dict[str, float]:
    """``noise``: dB that it lies below what sounds; ``peak_db``, of full scale."""
    quality = sound_quality(samples, rate_hz)
    return {"noise": quality.level_db - quality.floor_db, "peak_db": peak_db(samples)}


def noised(samples: NDArray[np.float32], rate_hz: int, below_db: float, number: int) -> NDArray[np.float32]:
    """The samples (n,) with white noise, ``below_db`` softer than what sounds; ``number`` decides on its values."""
    level = 10 ** ((sound_quality(samples, rate_hz).level_db - below_db) / 20)
    noise = np.random.default_rng([number, len(samples)]).normal(0.0, level, len(samples))
    spoiled: NDArray[np.float32] = (cleaned(samples) + noise).astype(np.float32)
    return spoiled


def quality_of(own: Sequence[Mapping[str, float]], noisy: Sequence[Mapping[str, float]], norms: Norms) -> Quality:
    """The scales that :func:`figures` of clips as they came give, and of the same with noise as loud as they are.

    Raises ValueError where there are none of either.
    """
    if not own or not noisy:
        raise ValueError("quality: need clips, and the same with noise, to calibrate by")
    noise = Scale(
        none=float(np.median([of["noise"] for of in noisy])),
        full=float(np.quantile([of["noise"] for of in own], FULL)),
    )
    scales = {}
    if noise.full - noise.none >= _LEAST_DB:
        scales["noise"] = noise
    if norms.peak_off_db <= _MOST_OFF_DB:
        off_db = [-abs(of["peak_db"] - norms.peak_db) for of in own]
        scales["level"] = Scale(none=-_SOFT_DB, full=float(np.quantile(off_db, FULL)))
    return Quality(scales=MappingProxyType(scales), usual_peak_db=norms.peak_db)
