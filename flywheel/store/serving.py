"""Who serves a workspace's home page: one process, whose address the next one names."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from flywheel.core.errors import BorderError, UserError


@contextlib.contextmanager
def only_home(root: Path) -> Iterator[Callable[[str], None]]:
    """Hold a workspace's home page until left; what is given notes its address.

    Raises UserError, with the address, while another process serves it: a killed one does so no longer.
    """
    try:
        file = os.open(root / ".home", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BorderError(f"{root}: can't be written ({error.strerror}). Check the folder.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            where = os.pread(file, 200, 0).decode(errors="replace").strip() or "an address that is not known yet"
            raise UserError(
                f"flywheel open: {root} is open already at {where}. Go there, or end that one first.", code="busy"
            ) from error
        os.ftruncate(file, 0)

        def note(address: str) -> None:
            os.pwrite(file, f"{address} (pid {os.getpid()})".encode(), 0)

        yield note
    finally:
        os.close(file)
