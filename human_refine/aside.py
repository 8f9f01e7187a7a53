"""Threads of their own for what may take long: whoever waits there holds up nobody who asks for something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class Aside:
    """A few threads. The web framework's own are shared by all requests, and there are forty of them."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def do(self, work: Callable[[], _T]) -> _T:
        """What the work returns or raises; it waits for those before it here, and for nobody else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
