"""Open rejects for the lead's page: counted anew when there are other records, and not for each look."""

from __future__ import annotations

import threading
from typing import Any

from flywheel.store import Workspace

_MOST = 200


class Rejects:
    """What failed and is still open, as it was when the records were last seen to change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: object = None
        self._open: dict[str, Any] = {}

    def open(self, workspace: Workspace) -> dict[str, Any]:
        """``reasons`` (stage, reason, rows; most first) and the newest ``rows`` (stage, reason, round, file, clip)."""
        with self._lock:
            stamp = workspace.stamp()
            if stamp != self._stamp:
                self._open, self._stamp = _counted(workspace), stamp
            return self._open


def _counted(workspace: Workspace) -> dict[str, Any]:
    frame = workspace.rejected(open_only=True)
    reasons = (
        frame.group_by("stage", "reason").len("rows").sort("rows", "stage", "reason", descending=[True, False, False])
    )
    newest = frame.reverse().head(_MOST)
    rows = [
        {**{name: row[name] for name in ("stage", "reason", "round", "clip_id")}, "file": row["uri"].rsplit("/", 1)[-1]}
        for row in newest.iter_rows(named=True)
    ]
    return {"num_rows": frame.height, "reasons": reasons.head(_MOST).to_dicts(), "rows": rows}
