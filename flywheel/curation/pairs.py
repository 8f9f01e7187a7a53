"""Pairs of sound and picture as numbers: those of this corpus, and those that are known not to match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: How the pairs of a clip are made: as they are, with another source's sound, and with its own at a wrong time.
OWN, SHUFFLED, SHIFTED = "own", "shuffled", "shifted"
CONTROLS = (SHUFFLED, SHIFTED)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What is known of n clips' pairs of sound and picture, nan where something can't be told.

    ``own`` and each of ``controls``, in the order of :data:`CONTROLS`: features (n, k). ``source``: a number (n,) for
    each clip's video. ``label``: what a lead said, (n,): 1 keep, 0 drop, -1 nothing.
    """

    own: NDArray[np.float32]
    controls: tuple[NDArray[np.float32], ...]
    source: NDArray[np.uint64]
    label: NDArray[np.int8]

    def comparable(self) -> NDArray[np.bool_]:
        """Which clips (n,) have a sound and a picture that can be compared."""
        return np.asarray(~np.isnan(self.own).all(axis=1))


def folds_of(source: NDArray[np.uint64], num: int) -> NDArray[np.int64]:
    """The fold (n,) of each clip: all clips of a video in one, whatever others there are."""
    # Hashes of neighbours differ in all bits, those of small numbers in tests do not: mixed by a prime.
    mixed = source * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(33)) % np.uint64(num)).astype(np.int64)
