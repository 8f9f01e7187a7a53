"""A stream in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from annotators.interface import Request


def batches(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Lists of ``size`` requests, the last one shorter; each is asked for when the one before was used."""
    stream = iter(requests)
    while batch := list(islice(stream, size)):
        yield batch
