"""Runs foreign code that may never end, such as a model's chat template, for so long and no longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Worker:
    """A thread that does one piece of work after the other; the process does not wait for it."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._work_on, name="patience", daemon=True).start()

    def ask(self, work: Callable[[], _T]) -> Future[_T]:
        result = Future[_T]()
        self._waiting.put((work, result))
        return result

    def _work_on(self) -> None:
        while True:
            work, result = self._waiting.get()
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)


_worker: _Worker | None = None


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """What ``work`` returns or raises; raises TimeoutError where that takes longer.

    Python can't end a thread. One that takes too long goes on until the process ends; what is asked next has a new one.
    """
    global _worker
    worker = _worker = _worker or _Worker()
    result = worker.ask(work)
    try:
        return result.result(seconds)
    except TimeoutError:
        if not result.done() and _worker is worker:
            _worker = None
        raise


def _forget() -> None:
    global _worker
    _worker = None


# A fork takes no threads along.
os.register_at_fork(after_in_child=_forget)
