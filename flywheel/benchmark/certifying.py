"""Certificates: whether an item can't be answered but with both sound and picture, measured in several ways.

Each item is answered in each way under shuffled orders of its options. It is kept where every way that lacks something
is at chance, to two standard errors, and the way with both is above. With another video's sound an item may be answered
rightly by accident: that way is measured over all items and decides on none. Orders come in whole turns, so that
whoever picks a place, and not an option, is at chance to the item.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.benchmark.items import Item
from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate

#: Ways of answering: the first ones lack something, ``swapped`` has another video's sound, ``both`` has all.
LACKING = ("text", "picture", "sound")
SWAPPED, BOTH = "swapped", "both"
WAYS = (*LACKING, SWAPPED, BOTH)
#: Standard errors from chance.
_ERRORS = 2.0

#: Answers an item in a way: the place that is chosen among options in this order, or -1.
Solver = Callable[[Item, str, Sequence[int]], int]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How often an item was answered rightly in each way, over ``orders`` orders; ``reason`` is why it is not kept."""

    item: str
    shares: Mapping[str, float]
    orders: int
    kept: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Certificates of a benchmark's items, the share that is kept, and the accuracy of each way over all items.

    ``twins`` is the share of pairs of twins of which both are right with ``both``: the same words and picture, another
    sound, another right option.
    """

    certificates: Sequence[Certificate]
    kept: Estimate
    by_way: Mapping[str, Estimate]
    twins: Estimate


def orders_of(item: Item, turns: int, seed: int) -> list[list[int]]:
    """Orders of an item's options: ``turns`` times a drawn one in all its rotations, n ``turns`` of n options."""
    count = len(item.options)
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(item.id.encode()).digest()[:6])])
    orders = []
    for _ in range(turns):
        drawn = [int(place) for place in rng.permutation(count)]
        orders += [drawn[shift:] + drawn[:shift] for shift in range(count)]
    return orders


def limit(chance: float, orders: int) -> float:
    """The most that guessing gives by two standard errors of ``orders`` answers."""
    return chance + _ERRORS * math.sqrt(chance * (1 - chance) / orders)


def certify(
    items: Sequence[Item], solvers: Sequence[Solver], twins: Mapping[str, str], *, turns: int = 2, seed: int = 0
) -> Certified:
    """Answer each item in each way by each solver, and certify it; ``twins`` are ids of twins by id.

    A way is at chance where no solver is above the limit. Raises ValueError without solvers.
    """
    if not solvers:
        raise ValueError("certify: no solver")
    certificates, right = list[Certificate](), {way: list[float]() for way in WAYS}
    for item in items:
        orders = orders_of(item, turns, seed)
        # The best of the panel: an item that one of them guesses can be guessed.
        shares = {way: max(_share(item, way, orders, solver) for solver in solvers) for way in WAYS}
        for way, share in shares.items():
            right[way].append(share)
        certificates.append(_certificate(item, shares, len(orders)))
    videos = [item.medium for item in items]
    return Certified(
        certificates=certificates,
        kept=clustered_estimate([float(c.kept) for c in certificates], videos),
        by_way={way: clustered_estimate(values, videos) for way, values in right.items()},
        twins=_of_twins(certificates, twins),
    )


def _share(item: Item, way: str, orders: Sequence[Sequence[int]], solver: Solver) -> float:
    """The share of orders under which the chosen place holds the right option."""
    hits = 0
    for order in orders:
        place = solver(item, way, order)
        hits += 0 <= place < len(order) and order[place] == item.key
    return hits / len(orders)


def _certificate(item: Item, shares: Mapping[str, float], orders: int) -> Certificate:
    # All right is above chance even where two standard errors reach it, as of two options in four orders.
    most = min(limit(1 / len(item.options), orders), 1 - 1 / orders)
    guessed = [f"{way} alone" for way in LACKING if shares[way] > most]
    reason = f"answered with {' and '.join(guessed)}" if guessed else ""
    if not reason and shares[BOTH] <= most:
        reason = "not answered with both"
    return Certificate(item=item.id, shares=shares, orders=orders, kept=not reason, reason=reason)


def _of_twins(certificates: Sequence[Certificate], twins: Mapping[str, str]) -> Estimate:
    """The share of pairs of which both items are answered with both, whatever the order."""
    solved = {c.item: c.shares[BOTH] == 1.0 for c in certificates}
    pairs = defaultdict[tuple[str, ...], list[bool]](list)
    for name, other in twins.items():
        if name in solved and other in solved:
            pairs[tuple(sorted((name, other)))] = [solved[name], solved[other]]
    return clustered_estimate([float(all(pair)) for pair in pairs.values()], [str(pair[0]) for pair in pairs])
