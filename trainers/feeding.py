"""Batches prepared ahead of the step that needs them, in threads, and how long the device had to wait for one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any

import torch

#: Rows to a batch.
Prepare = Callable[[Sequence[int]], dict[str, Any]]


class Feeder:
    """Prepares batches in ``num_threads`` threads, so many and one more ahead; with none in the caller's.

    Order and content are those of preparing each when it is asked for. A context manager: it ends its threads.
    """

    def __init__(self, device: torch.device, num_threads: int) -> None:
        self._device = device
        self._ahead = num_threads + 1
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="feeder") if num_threads else None
        self._copying: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.waiting = Waiting(device)

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def batches(self, prepare: Prepare, chunks: Iterable[Sequence[int]]) -> Iterator[dict[str, Any]]:
        """The batches of these rows. What fails is raised when its batch is asked for."""
        if self._pool is None:
            for rows in chunks:
                with self.waiting:
                    batch = prepare(rows)
                yield batch
            return
        pending: deque[Future[_Copied]] = deque()
        rest = iter(chunks)
        try:
            while True:
                for rows in islice(rest, self._ahead - len(pending)):
                    pending.append(self._pool.submit(self._prepared, prepare, rows))
                if not pending:
                    return
                with self.waiting:
                    copied = pending.popleft().result()
                yield copied.here()
        finally:
            for future in pending:
                future.cancel()

    def _prepared(self, prepare: Prepare, rows: Sequence[int]) -> _Copied:
        batch = prepare(rows)
        if self._copying is None:
            return _Copied(batch, None)
        # Beside what the device is doing: a batch of a hundred megabytes takes some milliseconds.
        with torch.cuda.stream(self._copying):
            there = {
                name: value.pin_memory().to(self._device, non_blocking=True) if torch.is_tensor(value) else value
                for name, value in batch.items()
            }
            return _Copied(there, self._copying.record_event())


class FedLoader(torch.utils.data.DataLoader[Any]):
    """A loader over rows in their order, whose batches a feeder prepares."""

    def __init__(self, feeder: Feeder, prepare: Prepare, rows: Any, batch_size: int) -> None:
        super().__init__(rows, batch_size=batch_size, collate_fn=list)
        self._feeder, self._make = feeder, prepare

    def __iter__(self) -> Any:
        return self._feeder.batches(self._make, super().__iter__())


class _Copied:
    """A batch, and the event that says when it is on the device."""

    def __init__(self, batch: dict[str, Any], event: Any) -> None:
        self._batch, self._event = batch, event

    def here(self) -> dict[str, Any]:
        """The batch, for use on the current stream."""
        if self._event is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self._event)
            for value in self._batch.values():
                if torch.is_tensor(value):
                    value.record_stream(stream)
        return self._batch


class Waiting:
    """Measures, as a context around each wait for a batch, how long the device had nothing to do meanwhile.

    On an accelerator that is what lies between two events on its stream: where it still computes when the wait ends, it
    did not wait. On the CPU it is the wait itself. The first wait is left out: it is before the first step.
    """

    def __init__(self, device: torch.device) -> None:
        self._events = device.type == "cuda"
        self._waited_s = 0.0
        self._first: float | None = None
        self._started: Any = None
        self._open: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._started = self._now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._first is None:
            self._first = time.perf_counter()
            return
        self._open.append((self._started, self._now()))
        while self._open and (not self._events or self._open[0][1].query()):
            self._waited_s += self._seconds(*self._open.pop(0))

    def busy_share(self) -> float:
        """The share of the time since the first batch, in [0, 1], in which the device did not wait for one."""
        if self._first is None:
            return 1.0
        if self._events:
            torch.cuda.synchronize()
        waited_s = self._waited_s + sum(self._seconds(*pair) for pair in self._open)
        return max(0.0, 1 - waited_s / max(time.perf_counter() - self._first, 1e-9))

    def _now(self) -> Any:
        if not self._events:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _seconds(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end) / 1000 if self._events else end - start)
