"""Where the workspace stands, for the lead's page: asked of those who know, and not for each look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from flywheel.core.errors import FlywheelError

#: Seconds for which an answer is shown.
_KEPT_S = 30.0


class Standing:
    """Lines that say how the last rounds went and what comes next; none where nothing tells."""

    def __init__(self, ask: Callable[[], Sequence[str]] | None) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._until, self._lines = 0.0, tuple[str, ...]()

    def lines(self) -> Sequence[str]:
        """The lines, half a minute old at most."""
        with self._lock:
            if self._ask is not None and time.monotonic() > self._until:
                try:
                    self._lines = tuple(self._ask())
                except FlywheelError:
                    # The page is for people's texts; 'flywheel status' says what is wrong.
                    self._lines = ()
                self._until = time.monotonic() + _KEPT_S
            return self._lines
