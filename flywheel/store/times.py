"""Times that are orders: rows say when, and the later one counts."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta


def time_after(newest: str | None) -> str:
    """The time as ISO text, later than ``newest``: a clock that is set back must not put a row before its past."""
    now = datetime.now(UTC)
    if newest is not None:
        # There is no time after the last one that can be written.
        with contextlib.suppress(OverflowError):
            now = max(now, datetime.fromisoformat(newest) + timedelta(microseconds=1))
    return now.isoformat()
