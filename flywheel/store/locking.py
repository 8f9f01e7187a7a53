"""The lock of a workspace's folder: one process writes at a time, or several that share a pass.

A killed one holds it no longer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from flywheel.core.errors import BorderError, UserError

#: Looks before a folder counts as in use, this long apart: whoever asks :func:`is_held` has it for a moment.
_LOOKS, _BETWEEN_S = 3, 0.02


@contextlib.contextmanager
def hold_folder(root: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the folder for writing, alone or ``shared`` with others that share it. Raises UserError where that can't be
    now."""
    with _lock_file(root) as descriptor:
        if not _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UserError(
                f"{root}: in use by another flywheel process (pid {holder}). Wait for it to end, or stop it.",
                code="busy",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


def is_held(root: Path) -> bool:
    """Whether another process holds the folder for writing now; of a folder that can only be read too."""
    try:
        descriptor, how = os.open(root / ".lock", os.O_RDWR), fcntl.LOCK_EX
    except OSError:
        try:
            # Over NFS a file that is open for reading alone can't be locked for writing.
            descriptor, how = os.open(root / ".lock", os.O_RDONLY), fcntl.LOCK_SH
        except OSError:
            # Nobody ever held it, or whoever does so is somebody whom this user can't ask.
            return False
    try:
        return not _try_flock(descriptor, how)
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int) -> bool:
    """Take the lock of an open file, at the second or third look if somebody just asks who has it."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_S)
        if _try_flock(descriptor, how):
            return True
    return False


@contextlib.contextmanager
def _lock_file(root: Path) -> Iterator[int]:
    try:
        descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BorderError(f"{root}: can't be written ({error.strerror}). Check the folder.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_flock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file if no other process has it otherwise; returns whether it was taken."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
