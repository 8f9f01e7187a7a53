"""Certificates: whether an item can't be answered but with both sound and picture, measured in several ways.

Each item is answered in each way under shuffled orders of its options. It is kept where every way that lacks something
is at chance, to two standard errors, and the way with both is above. With another video's sound an item may be answered
rightly by accident, and captions hold both: these ways are measured over all items and decide on none. Orders come in
whole turns, so that whoever picks a place, and not an option, is at chance to the item.
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
TRANSCRIPT, CAPTIONS, SWAPPED, BOTH = "transcript", "captions", "swapped", "both"
WAYS = (*LACKING, SWAPPED, BOTH)
#: With what models make of them in words: what is said in the video, and what is seen and heard.
ALL_WAYS = (*LACKING, TRANSCRIPT, CAPTIONS, SWAPPED, BOTH)
#: Standard errors from chance.
_ERRORS = 2.0

#: Answers an item in a way: the place that is chosen among options in this order, -1 for no answer; None where this
#: solver can't be asked in this way.
Solver = Callable[[Item, str, Sequence[int]], int | None]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How often an item was answered rightly in each way, over ``orders`` orders; ``reason`` is why it is not kept.

    ``solved`` is whether it was answered with both above chance; ``verified`` whether a model beside the panel finds
    its key right, None where none was asked.
    """

    item: str
    shares: Mapping[str, float]
    orders: int
    kept: bool
    reason: str = ""
    solved: bool = False
    verified: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Certificates of a benchmark's items, the shares that are kept and solved, and each way's accuracy over all items.

    ``twins`` is the share of pairs of twins of which both are right with ``both``: the same words and picture, another
    sound, another right option.
    """

    certificates: Sequence[Certificate]
    kept: Estimate
    solved: Estimate
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
    items: Sequence[Item],
    solvers: Sequence[Solver],
    twins: Mapping[str, str],
    *,
    turns: int = 2,
    seed: int = 0,
    ways: Sequence[str] = WAYS,
    verifier: Solver | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Certified:
    """Answer each item in each way by each solver, and certify it; ``twins`` are ids of twins by id.

    A way is at chance where no solver is above the limit. Where there is a ``verifier``, an item is kept only if that
    one too chooses its key with both, in most orders. ``left_out`` are reasons by id for which items are not kept
    whatever is answered. Raises ValueError without solvers.
    """
    if not solvers:
        raise ValueError("certify: no solver")
    certificates, right = list[Certificate](), {way: dict[str, float]() for way in ways}
    for item in items:
        orders = orders_of(item, turns, seed)
        # The best of the panel: an item that one of them guesses can be guessed.
        shares = {way: max(found) for way in ways if (found := _shares(item, way, orders, solvers))}
        for way, share in shares.items():
            right[way][item.id] = share
        checked = None if verifier is None else _shares(item, BOTH, orders, [verifier])
        verified = None if checked is None else any(share > 1 / 2 for share in checked)
        certificates.append(_certificate(item, shares, len(orders), verified, (left_out or {}).get(item.id, "")))
    videos = {item.id: item.medium for item in items}
    names = [videos[c.item] for c in certificates]
    return Certified(
        certificates=certificates,
        kept=clustered_estimate([float(c.kept) for c in certificates], names),
        solved=clustered_estimate([float(c.solved) for c in certificates], names),
        by_way={
            way: clustered_estimate(list(found.values()), [videos[name] for name in found])
            for way, found in right.items()
            if found
        },
        twins=_of_twins(certificates, twins),
    )


def _shares(item: Item, way: str, orders: Sequence[Sequence[int]], solvers: Sequence[Solver]) -> list[float]:
    """Of each solver that can be asked: the share of orders under which the chosen place holds the right option."""
    shares = []
    for solver in solvers:
        places = [solver(item, way, order) for order in orders]
        if None in places:
            continue
        hits = [
            place is not None and 0 <= place < len(order) and order[place] == item.key
            for place, order in zip(places, orders, strict=True)
        ]
        shares.append(sum(hits) / len(orders))
    return shares


def _certificate(
    item: Item, shares: Mapping[str, float], orders: int, verified: bool | None, left_out: str
) -> Certificate:
    # All right is above chance even where two standard errors reach it, as of two options in four orders.
    most = min(limit(1 / len(item.options), orders), 1 - 1 / orders)
    guessed = [f"{way} alone" for way in (*LACKING, TRANSCRIPT) if shares.get(way, 0.0) > most]
    missing = [way for way in (*LACKING, BOTH) if way not in shares]
    solved = shares.get(BOTH, 0.0) > most
    reason = left_out or (f"answered with {' and '.join(guessed)}" if guessed else "")
    if not reason and missing:
        reason = f"not asked with {' and '.join(missing)}"
    if not reason and not solved:
        reason = "not answered with both"
    if not reason and verified is False:
        reason = "another model finds its key wrong"
    return Certificate(
        item=item.id, shares=shares, orders=orders, kept=not reason, reason=reason, solved=solved, verified=verified
    )


def _of_twins(certificates: Sequence[Certificate], twins: Mapping[str, str]) -> Estimate:
    """The share of pairs of which both items are answered with both, whatever the order."""
    solved = {c.item: c.shares.get(BOTH) == 1.0 for c in certificates}
    pairs = defaultdict[tuple[str, ...], list[bool]](list)
    for name, other in twins.items():
        if name in solved and other in solved:
            pairs[tuple(sorted((name, other)))] = [solved[name], solved[other]]
    return clustered_estimate([float(all(pair)) for pair in pairs.values()], [str(pair[0]) for pair in pairs])
