"""Pairs of sound and picture as numbers: those of this corpus, and those that are known not to match."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

#: How the pairs of a clip are made: as they are, with another source's sound, and with its own at a wrong time.
OWN, SHUFFLED, SHIFTED = "own", "shuffled", "shifted"
CONTROLS = (SHUFFLED, SHIFTED)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What is known of n clips' pairs of sound and picture, nan where something can't be told.

    ``own`` and each of ``controls``, in the order of :data:`CONTROLS`: features (n, k). ``source``: a number (n,) for
    each clip's video. ``label``: what a lead said, (n,): 1 keep, 0 drop, -1 nothing. ``asked``: which of the features a
    model was asked for (k,), none if left out.
    """

    own: NDArray[np.float32]
    controls: tuple[NDArray[np.float32], ...]
    source: NDArray[np.uint64]
    label: NDArray[np.int8]
    asked: NDArray[np.bool_] | None = None

    def comparable(self) -> NDArray[np.bool_]:
        """Which clips (n,) have a sound and a picture that can be compared."""
        return _known(self.own)


@dataclass(frozen=True, kw_only=True)
class Heaps:
    """Pairs of both heaps in rows: ``features`` (n, k), whether each is an own one (``first``), its ``source``.

    ``counted`` are the own ones and those of another source's sound. ``complete``: of the pair's clip, all pairs have
    features that a model was ``asked`` for (k,).
    """

    features: NDArray[np.float32]
    first: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    source: NDArray[np.uint64]
    asked: NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Pairs, most: int) -> Heaps:
        """The pairs of the first ``most`` clips that can be compared, without those that can't."""
        usable = np.flatnonzero(pairs.comparable())[:most]
        own, made = pairs.own[usable], [control[usable] for control in pairs.controls]
        features = np.concatenate([own, *made])
        asked = pairs.asked if pairs.asked is not None else np.zeros(features.shape[1], dtype=bool)
        complete = np.all([_known(pair[:, asked]) for pair in (own, *made)], axis=0)
        is_own = np.concatenate([pairs.label[usable] != 0, np.zeros(len(own) * len(made), dtype=bool)])
        heaps = cls(
            features=features,
            first=is_own,
            counted=np.arange(len(features)) < 2 * len(own),
            complete=np.tile(complete, 1 + len(made)),
            source=np.tile(pairs.source[usable], 1 + len(made)),
            asked=asked,
        )
        return heaps.rows(_known(features))

    def rows(self, which: NDArray[np.bool_]) -> Heaps:
        """Some of the rows."""
        return replace(
            self,
            features=self.features[which],
            first=self.first[which],
            counted=self.counted[which],
            complete=self.complete[which],
            source=self.source[which],
        )

    def of_features(self, which: NDArray[np.bool_]) -> Heaps:
        """Some of the features (k,), and the rows that have one of them."""
        some = replace(self, features=self.features[:, which], asked=self.asked[which])
        return some.rows(_known(some.features))

    def least(self) -> int:
        """Pairs of the smaller heap, of those that are counted."""
        return min(int(self.first.sum()), int((~self.first & self.counted).sum()))


def _known(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pairs (n,) have a feature that is known."""
    return np.asarray(~np.isnan(features).all(axis=1))


def folds_of(source: NDArray[np.uint64], num: int) -> NDArray[np.int64]:
    """The fold (n,) of each clip: all clips of a video in one, whatever others there are."""
    # Hashes of neighbours differ in all bits, those of small numbers in tests do not: mixed by a prime.
    mixed = source * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(33)) % np.uint64(num)).astype(np.int64)
