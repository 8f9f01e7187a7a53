"""Records, database, caches: what touches the disk, and all SQL.

:class:`Workspace` is the door, :class:`View` what can be read of it at any time.
"""

from flywheel.store.view import View
from flywheel.store.workspace import Workspace

__all__ = ["View", "Workspace"]
