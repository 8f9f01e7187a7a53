"""Keeps and passes on what an engine's processes write while they start: the cause of their end stands there alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import threading
from types import TracebackType

#: The end that is kept for whoever asks, and the size after which what was passed on is forgotten, in bytes.
_END, _MOST = 1 << 18, 1 << 24
_PASS_ON_S = 0.2


class Overheard:
    """While this lasts, stdout and stderr of this process, and of those it starts then for good, go through a file.

    All is passed on to stderr. A file and no pipe: a process that outlives this one must not wait for a reader.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as somebody may write)
        fcntl.fcntl(self._file.fileno(), fcntl.F_SETFL, os.O_APPEND)
        self._own: dict[int, int] = {}
        self._passed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def __enter__(self) -> Overheard:
        # A service may have closed them.
        with contextlib.suppress(OSError):
            _flush()
            self._own = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
            for descriptor in self._own:
                os.dup2(self._file.fileno(), descriptor)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        for descriptor, own in self._own.items():
            os.dup2(own, descriptor)

    def text(self) -> str:
        """The end of what was written so far."""
        size = os.fstat(self._file.fileno()).st_size
        return os.pread(self._file.fileno(), _END, max(0, size - _END)).decode(errors="replace")

    def close(self) -> None:
        """Pass on the rest, and nothing more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        for own in self._own.values():
            os.close(own)
        self._own = {}

    def _pass_on(self) -> None:
        ended = False
        while not ended:
            # What is written before the end is read after it.
            ended = self._ended.wait(_PASS_ON_S)
            while part := os.pread(self._file.fileno(), 1 << 16, self._passed):
                self._passed += len(part)
                with contextlib.suppress(OSError):
                    os.write(self._own[2], part)
            if self._passed > _MOST:
                os.ftruncate(self._file.fileno(), 0)
                self._passed = 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
