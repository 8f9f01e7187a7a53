"""Records, database, cache: what is kept on disk. :class:`Workspace` is the door."""

from flywheel.store.workspace import Workspace

__all__ = ["Workspace"]
