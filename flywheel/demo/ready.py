"""A workspace with two rounds to look at: the quick demo's, made once for each user and opened at once from then on."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.core.progress import say
from flywheel.demo.sizes import QUICK


def ready_folder() -> Path:
    """Where the ready workspace lies: in the user's cache, under a name that changes with what the quick demo is."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    what = hashlib.sha256(json.dumps(asdict(QUICK), sort_keys=True).encode()).hexdigest()
    return cache / "flywheel" / f"demo-{what[:8]}"


def ready_summary(folder: Path) -> dict[str, Any] | None:
    """What came of the demo in this folder; None, which is said, where there is none that came to its end."""
    file = folder / "summary.json"
    if (folder / "flywheel.yaml").exists():
        # Of an older version, or cut off: it is made again from the workspace.
        with suppress(OSError, ValueError, KeyError, IndexError):
            summary = dict(json.loads(file.read_text()))
            if "gain" in summary["rounds"][-1]:
                return summary
    say(f"{folder}: is made now, once, in some minutes; from then on it opens at once")
    return None
