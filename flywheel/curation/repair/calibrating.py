"""What clips tell of their corpus, one after the other: what is usual, and what each reward is worth there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flywheel.curation.repair.measures import Measures, Norms, Picture, measures, norms
from flywheel.curation.repair.quality import figures, noised, quality_of
from flywheel.curation.repair.rewards import Rewards, calibrated, falls, raw

#: Noise that spoils a sound, and noise that hardly anybody minds, dB below what sounds.
_SPOILING_DB, _HARMLESS_DB = 0.0, 20.0


@dataclass(eq=False)
class Calibrating:
    """Takes clips in; two of them are held at a time."""

    _own: list[Mapping[str, float]] = field(default_factory=list)
    _wrong: list[Mapping[str, float]] = field(default_factory=list)
    _disturbed: list[Mapping[str, float]] = field(default_factory=list)
    _figures: list[Mapping[str, float]] = field(default_factory=list)
    _noisy: list[Mapping[str, float]] = field(default_factory=list)
    _measures: list[Measures] = field(default_factory=list)
    _last: tuple[NDArray[np.float32], str] | None = None

    def add(self, samples: NDArray[np.float32], rate_hz: int, picture: Picture, content: str) -> None:
        """Take in the mono samples (n,) of a clip; ``content`` tells videos apart."""
        number = len(self._own)
        self._own.append(raw(samples, rate_hz, picture))
        self._measures.append(measures(samples, rate_hz, picture))
        self._figures.append(figures(samples, rate_hz))
        self._noisy.append(figures(noised(samples, rate_hz, _SPOILING_DB, number), rate_hz))
        self._disturbed.append(raw(noised(samples, rate_hz, _HARMLESS_DB, number), rate_hz, picture))
        if self._last is not None and self._last[1] != content:
            # Another video's sound with this picture.
            self._wrong.append(raw(self._last[0], rate_hz, picture))
        self._last = samples, content

    @property
    def wrong(self) -> int:
        """How many pairs were made wrong on purpose."""
        return len(self._wrong)

    def result(self) -> tuple[Norms, Rewards]:
        """What is usual, and the rewards. Raises ValueError without clips, or without wrong pairs."""
        usual, scales = norms(self._measures), calibrated(self._own, self._wrong).scales
        quality = quality_of(self._figures, self._noisy, usual)
        return usual, Rewards(scales=scales, quality=quality, falls=falls(self._own, self._disturbed, scales))
