"""Sorting and looking up of a million keys at a time, in few bytes beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Keys that are looked up at a time.
_BLOCK = 65_536
#: Bytes of each string that are sorted first, as a number.
_HEAD = np.dtype("S8")


def heads(strings: Iterable[str]) -> NDArray[np.uint64]:
    """The first eight bytes of each string as a number, (n,): in the same order as the strings, where they differ."""
    return heads_of(np.array([string.encode() for string in strings], dtype=_HEAD))


def heads_of(strings: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """The same of strings that are bytes already, (n,)."""
    return strings.astype(_HEAD).view(">u8").astype(np.uint64)


def string_order(
    head_n: NDArray[np.uint64], whole: Callable[[NDArray[np.int32]], NDArray[np.bytes_]]
) -> NDArray[np.int32]:
    """The rows in the order of strings, (n,), equal ones as they stand: 20 bytes a row while it is made.

    ``head_n`` are their :func:`heads`, ``whole`` gives the bytes of some rows' strings: of those that begin alike,
    which are few where strings begin with digits of a hash.
    """
    order = np.argsort(head_n, kind="stable").astype(np.int32)
    alike = np.zeros(len(order) + 1, dtype=np.bool_)
    np.equal(head_n[order][1:], head_n[order][:-1], out=alike[1:-1])
    starts, ends = np.flatnonzero(~alike[:-1] & alike[1:]), np.flatnonzero(alike[:-1] & ~alike[1:]) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows = order[start:end]
        order[start:end] = rows[np.argsort(whole(rows), kind="stable")]
    return order


def ranks(order: NDArray[np.int32]) -> NDArray[np.int32]:
    """The place of each row in an order of them, (n,)."""
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


def is_among(keys: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the keys are wanted ones, (n,): a byte a key, where ``np.isin`` would sort copies of all of them."""
    found = np.zeros(len(keys), dtype=np.bool_)
    known = np.unique(wanted)
    for start in range(0, len(keys) if len(known) else 0, _BLOCK):
        some = keys[start : start + _BLOCK]
        places = np.minimum(np.searchsorted(known, some), len(known) - 1)
        found[start : start + _BLOCK] = known[places] == some
    return found


def number_of(name: str) -> int:
    """A number from a name alone, in [0, 2^63): the same in any process, on any machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1
