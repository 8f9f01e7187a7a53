"""Sums of vectors and of their products, which tell mean and spread of their similarities to any vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Vectors that are multiplied at a time, in double precision.
_BLOCK = 16_384


@dataclass(frozen=True)
class Moments:
    """Of ``count`` vectors their sum (D,) and the sum of their outer products (D, D)."""

    count: int
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def none(cls, width: int) -> Moments:
        """The moments of no vector."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    def plus(self, vectors_ND: NDArray[np.float16]) -> Moments:
        """The moments with these vectors."""
        return self._and(vectors_ND, 1)

    def without(self, vectors_ND: NDArray[np.float16]) -> Moments:
        """The moments without these vectors, which are among them."""
        return self._and(vectors_ND, -1)

    def spread(self, vector_D: NDArray[np.float32]) -> tuple[float, float]:
        """Mean and standard deviation of the vectors' similarities (products) to this one."""
        if not self.count:
            return 0.0, 0.0
        vector = vector_D.astype(np.float64)
        mean = float(self.sums @ vector) / self.count
        return mean, math.sqrt(max(0.0, float(vector @ self.products @ vector) / self.count - mean**2))

    def spreads(self, vectors_ND: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same (N,) of each of these."""
        vectors, count = vectors_ND.astype(np.float64), max(1, self.count)
        mean = vectors @ self.sums / count
        squares = np.einsum("nd,nd->n", vectors @ self.products, vectors) / count
        return mean, np.sqrt(np.maximum(0.0, squares - mean**2))

    def _and(self, vectors: NDArray[np.float16], sign: int) -> Moments:
        if not len(vectors):
            return self
        sums, products = self.sums.copy(), self.products.copy()
        for start in range(0, len(vectors), _BLOCK):
            some = vectors[start : start + _BLOCK].astype(np.float64)
            sums += sign * some.sum(axis=0)
            products += sign * (some.T @ some)
        return Moments(self.count + sign * len(vectors), sums, products)
