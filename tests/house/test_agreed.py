"""A question is asked while the lock is free, and again where the plan changed meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flywheel.cli._shared import agreed


def test_the_lock_is_free_while_somebody_thinks_and_what_changed_is_asked_again() -> None:
    held, plans, asked = [False], iter([1, 2, 2]), list[tuple[int, bool]]()

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        held[0] = True
        try:
            yield
        finally:
            held[0] = False

    with agreed(lock, lambda: next(plans), lambda plan: asked.append((plan, held[0]))) as plan:
        assert (plan, held) == (2, [True])
    assert asked == [(1, False), (2, False)]
    assert held == [False]
    with agreed(lock, lambda: 7, None) as plan:
        assert (plan, held) == (7, [True])
