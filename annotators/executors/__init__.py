"""Where a pass's decoders and engines run: in this process, or on a Ray cluster. The pass itself is the same.

Registered by file name; what an executor is asked for is :class:`Executor`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flywheel.core.config import Ray

if TYPE_CHECKING:
    from annotators.interface import Engine
    from annotators.tasks import Task
    from annotators.writer import Recipe

#: Of each clip id: its media as requests bring them, or why there are none.
Media = dict[str, Any]
Load = Callable[[Iterable["Task"]], Media]


class Decoded(NamedTuple):
    """Seconds that reading a clip elsewhere took, and its reads of files and of the cache."""

    seconds: float = 0.0
    decodes: int = 0
    cache_hits: int = 0


class Decoders(Protocol):
    """Reads the media of clips ahead of the engine."""

    def submit(self, load: Load, tasks: list[Task], /) -> Future[Media]:
        """The media of these tasks once they are read; ``load`` reads them in this process."""
        ...


class Executor(Protocol):
    """Where the work of passes runs."""

    #: Engines that write at once, so that each has clips that lie ready.
    width: int
    #: What decoders in other processes did, until a pass takes it from here.
    decoded: deque[Decoded]

    def decoders(self, count: int) -> AbstractContextManager[Decoders]:
        """As many decoders, while the context lasts."""
        ...

    def engine(self, recipe: Recipe, build: Callable[[], Engine], checks: list[Callable[[Engine], object]]) -> Engine:
        """The engine: ``build`` makes it in this process, ``recipe`` elsewhere.

        Each of the ``checks`` that there are by then is made of a part that is started anew, before it writes.
        """
        ...


class Local:
    """In this process: threads decode, and one engine writes."""

    width = 1

    def __init__(self) -> None:
        self.decoded = deque[Decoded]()

    def decoders(self, count: int) -> AbstractContextManager[Decoders]:
        return ThreadPoolExecutor(count)

    def engine(self, recipe: Recipe, build: Callable[[], Engine], checks: list[Callable[[Engine], object]]) -> Engine:
        return build()


def build(name: str, settings: Ray) -> Executor:
    """The executor ``local`` or ``ray``. Raises UserError where Ray is not installed or there is no such cluster."""
    if name == "local":
        return Local()
    from annotators.executors.ray import connected

    return connected(settings)
