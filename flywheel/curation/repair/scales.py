"""What a corpus makes of a raw figure: none, full marks, or what lies between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Full marks are what this share of clips as they came does not pass.
FULL = 0.75


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A straight line from ``none`` to ``full``, which become 0 and 1; beyond them it stays there."""

    none: float
    full: float

    def of(self, raw: float) -> float:
        return float(np.clip((raw - self.none) / max(self.full - self.none, 1e-6), 0, 1))
