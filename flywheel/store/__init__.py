"""Records, database, media, cache: what touches the disk. :class:`Workspace` is the door."""

from flywheel.store.workspace import Workspace

__all__ = ["Workspace"]
