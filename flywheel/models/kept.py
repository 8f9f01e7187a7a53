"""Prepared pixels in memory up to a number of bytes; those that were used longest ago go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

#: Bytes of memory that a token takes in a list.
_TOKEN_BYTES = 36

#: Token ids of a clip's span, and the tensors that go along.
Entry = tuple[list[int], dict[str, Any]]


class KeptPixels:
    """Clips' prepared pixels by key, for any number of threads; at most ``most_bytes`` of them."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._size = most_bytes, 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        """What is kept of a clip; None where nothing is."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep a clip's pixels, where they alone are not too large."""
        size = _bytes(entry)
        if size > self._most:
            return
        with self._lock:
            if (before := self._entries.pop(key, None)) is not None:
                self._size -= _bytes(before)
            self._entries[key] = entry
            self._size += size
            while self._size > self._most:
                self._size -= _bytes(self._entries.popitem(last=False)[1])

    @property
    def size_bytes(self) -> int:
        """Bytes that are kept."""
        return self._size

    def __len__(self) -> int:
        return len(self._entries)


def _bytes(entry: Entry) -> int:
    pixels: int = sum(tensor.numel() * tensor.element_size() for tensor in entry[1].values())
    return _TOKEN_BYTES * len(entry[0]) + pixels
