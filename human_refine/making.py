"""What takes long is made in a thread of its own, one after the other; who asks is told that it is being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue


class BeingMade(Exception):
    """A copy that browsers play is being made; it can be asked for again."""


class OneByOne:
    """Makes what is asked for, each once: nobody waits for another's, and an encoder takes all the cores there are.

    Its thread begins with the first that is asked for, and ends with the server, whatever it is at.
    """

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._made: dict[str, Future[None]] = {}
        self._wanted: SimpleQueue[tuple[Future[None], Callable[[], object]]] = SimpleQueue()
        self._maker: threading.Thread | None = None

    def have(self, key: str, make: Callable[[], object], patience_s: float) -> None:
        """Have it made, where it is not being made already, and wait so long.

        What was there before the thread comes to it is for ``make`` to see. Raises what that raises, to who asks next
        too; then it is tried again. Raises BeingMade where it is not done within ``patience_s``.
        """
        with self._lock:
            if key not in self._made:
                self._made[key] = self._asked_for(make)
            made = self._made[key]
        try:
            made.result(patience_s)
        except TimeoutError as error:
            if made.done():
                raise
            raise BeingMade("a copy that browsers play is being made") from error
        finally:
            if made.done():
                with self._lock:
                    if self._made.get(key) is made:
                        del self._made[key]

    def _asked_for(self, make: Callable[[], object]) -> Future[None]:
        made = Future[None]()
        self._wanted.put((made, make))
        if self._maker is None:
            self._maker = threading.Thread(target=self._make_all, name=self._name, daemon=True)
            self._maker.start()
        return made

    def _make_all(self) -> None:
        while True:
            made, make = self._wanted.get()
            try:
                make()
            except BaseException as error:
                # A library in Rust that gives up raises what is no Exception; who comes next is served all the same.
                made.set_exception(error)
            else:
                made.set_result(None)
            # While it waits, nothing is held.
            del made, make
