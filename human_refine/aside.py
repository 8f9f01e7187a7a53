"""Room of its own for what may take long: whoever waits there holds up nobody who asks for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

_T = TypeVar("_T")


class Aside:
    """So many threads and no more. The web framework's own are shared by all requests, and there are forty of them.

    They end with the server, whatever they are at.
    """

    def __init__(self, threads: int) -> None:
        self._limit = CapacityLimiter(threads)

    async def do(self, work: Callable[[], _T]) -> _T:
        """What the work returns or raises; it waits for those before it here, and for nobody else."""
        return await to_thread.run_sync(work, limiter=self._limit)
