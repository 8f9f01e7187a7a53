"""Who knows what is in a rendered video: answers its questions by what is perceived in each way, and nothing else.

What can't be known is guessed by a place that hangs on the item alone, which is at chance over whole turns of orders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.benchmark.building import tracks
from flywheel.benchmark.certifying import BOTH, SWAPPED, Solver
from flywheel.benchmark.items import Item
from flywheel.benchmark.programs import Program, answer
from flywheel.playground.timeline import LongVideo


def oracle(rows: Sequence[Mapping[str, Any]], videos: Sequence[LongVideo]) -> Solver:
    """The solver of these rows of the format ``flywheel``, made of these videos."""
    known = {row["id"]: row for row in rows}
    by_name = {f"{video.name}.mp4": video for video in videos}
    names = sorted(by_name)

    def solve(item: Item, way: str, order: Sequence[int]) -> int:
        row = known[item.id]
        own = by_name[item.video]
        seen, own_heard = tracks(own)
        heard = tracks(by_name[_other(names, item.video, f"{own.twin}.mp4")])[1] if way == SWAPPED else own_heard
        said = answer(
            Program(**row["program"]),
            seen if way in ("picture", SWAPPED, BOTH) else None,
            heard if way in ("sound", SWAPPED, BOTH) else None,
        )
        shown = [row["values"][place] for place in order]
        return shown.index(said) if said in shown else _guess(item, way, len(order))

    return solve


def _other(names: Sequence[str], name: str, twin: str) -> str:
    """The next video that is not this one's twin; the twin where there is no other."""
    after = names.index(name) + 1
    rest = [*names[after:], *names[: after - 1]]
    return next((other for other in rest if other != twin), twin)


def _guess(item: Item, way: str, count: int) -> int:
    return hashlib.sha256(f"{item.id}/{way}".encode()).digest()[0] % count
