"""Whether the bundled demo model writes about videos that it knows nothing of."""

from __future__ import annotations

from flywheel.core.errors import BorderError
from flywheel.playground.drawn import TOY_NOTICE, all_drawn
from flywheel.playground.tiny import BUNDLED
from flywheel.store import Workspace


def toy_notice(workspace: Workspace) -> str:
    """The notice that the demo model writes about others than the playground's videos; empty where it does not.

    The first clips are looked at, and no others; nothing is said where damage hides them.
    """
    main = workspace.config.main
    if main.folder not in BUNDLED or main.engine == "fake":
        return ""
    try:
        first = next(workspace.records.batches("clips", columns=["width", "height"]), None)
    except BorderError as error:
        if error.code != "shard":
            raise
        return ""
    if first is None or all_drawn(first.unique().iter_rows()):
        return ""
    return TOY_NOTICE
