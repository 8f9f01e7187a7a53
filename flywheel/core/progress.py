"""Progress of long work on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from flywheel.core.foreign import escaped
from flywheel.core.secrets import without_secrets

_LINE_EVERY_S = 10.0


@runtime_checkable
class Progress(Protocol):
    """Counts finished items."""

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more items as finished."""


class _Lines:
    """Writes a line every ten seconds and one at the end."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._started = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S or self._done == self._total:
            self._last = now
            rate = self._done / max(now - self._started, 1e-9)
            left = f", {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
            of = f"/{self._total}" if self._total is not None else ""
            say(f"{self._label}: {self._done}{of} ({rate:.1f}/s{left})")


#: What counts instead of a bar, in a process that nobody looks at.
_instead: list[Progress] = []


def show_with(bar: Progress) -> None:
    """Let all further progress of this process be counted by ``bar``, which is read elsewhere."""
    _instead[:] = [bar]


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Progress]:
    """Show the progress of ``total`` items (None: unknown how many) while the context lasts."""
    if _instead:
        yield _instead[0]
        return
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        class _Bar:
            def advance(self, count: int = 1) -> None:
                bar.advance(task, count)
                speed = bar.tasks[task].speed
                if speed:
                    bar.update(task, description=f"{label} {speed:.1f}/s")

        yield _Bar()


def say(message: str) -> None:
    """Print one line about the work under way on stderr; what a terminal would obey in it is escaped."""
    print(escaped(without_secrets(message)), file=sys.stderr, flush=True)
