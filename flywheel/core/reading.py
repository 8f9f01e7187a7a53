"""Counts of the clips that a stage could and could not read: a disk that is away must not pass for broken files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from flywheel.core.errors import FlywheelError

#: Clips of which the share is looked at before the stage is through; fewer tell too little.
_ENOUGH = 64
#: So many in a row that can't be read are a disk that went away, whatever was read before.
IN_A_ROW = 1000
_NAMED = 3


class Unreadable(FlywheelError):
    """Most clips of a stage can't be read: it stops, and is not done."""

    code = "unreadable"


#: What to do where most can't be read.
_AWAY = (
    "Is the disk mounted? Then run the same command. Files that moved are found again by 'flywheel ingest FOLDER'; "
    "for those that are gone for good there are 'flywheel takedown' and corpus.most_unreadable."
)


class Reading:
    """How reading goes: ``what`` reads, and the share of clips that may fail, ``most``; at 1 it never stops.

    ``failure`` says what failed with a clip, ``advice`` what to do where that are too many.
    """

    def __init__(self, what: str, most: float = 0.5, *, failure: str = "can't be read", advice: str = _AWAY) -> None:
        self._what, self._most, self._failure, self._advice = what, most, failure, advice
        self.tried = self.failed = self._in_a_row = 0
        self._first: dict[str, str] = {}
        #: Batches are read in threads.
        self._lock = threading.Lock()

    def good(self) -> None:
        """Count a clip that could be read."""
        with self._lock:
            self.tried += 1
            self._in_a_row = 0

    def bad(self, name: str, why: str, *, counted: bool = False) -> None:
        """Count a clip, by its file or id, that can't be read; ``counted`` where it was taken for good before."""
        with self._lock:
            self.tried += not counted
            self.failed += 1
            self._in_a_row += 1
            if len(self._first) < _NAMED:
                self._first[name] = why

    def check(self, *, ended: bool = False) -> None:
        """Raises Unreadable where too many failed; before the stage has ``ended`` only where enough were tried."""
        if self._most >= 1 or not self.failed:
            return
        too_many = self.failed > self._most * self.tried
        if (too_many and (ended or self.tried >= _ENOUGH)) or self._in_a_row >= IN_A_ROW:
            first = ", ".join(f"{name} ({why})" for name, why in self._first.items())
            raise Unreadable(
                f"{self._what}: {self.failed} of {self.tried} clips {self._failure}: {first}"
                f"{', …' if self.failed > len(self._first) else ''}. {self._advice}"
            )

    def state(self) -> Mapping[str, Any]:
        """The counts, for a checkpoint."""
        return {"tried": self.tried, "failed": self.failed}

    def take(self, state: Mapping[str, Any]) -> None:
        """Go on from counts of a checkpoint."""
        self.tried, self.failed = state["tried"], state["failed"]
