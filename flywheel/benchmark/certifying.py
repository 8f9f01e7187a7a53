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
from dataclasses import dataclass, replace

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

#: What a solver gives where it was to be asked and could not be: nobody knows what it would have chosen.
FAILED = -2

#: Answers an item in a way: the place that is chosen among options in this order, -1 for no answer; None where this
#: solver is not asked in this way, ``FAILED`` where that failed.
Solver = Callable[[Item, str, Sequence[int]], int | None]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How often an item was answered rightly in each way, over ``orders`` orders; ``reason`` is why it is not kept.

    ``solved`` is whether it was answered with both above chance; ``verified`` whether a model beside the panel finds
    its key right, None where none was asked, or could be. ``shares`` lack the ways that one of the panel could not be
    asked in.
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


def limit_of_best(chance: float, orders: int, solvers: int) -> float:
    """The most that the best of ``solvers`` gives by guessing, as seldom exceeded as :func:`limit` is by one.

    By the exact chances of so many right orders, and the bound that adds them up over the solvers (Bonferroni's).
    """

    def exceeded(count: int) -> float:
        ways = (math.comb(orders, n) * chance**n * (1 - chance) ** (orders - n) for n in range(count + 1, orders + 1))
        return math.fsum(ways)

    alone = min(math.floor(limit(chance, orders) * orders), orders)
    return next(n for n in range(alone, orders + 1) if solvers * exceeded(n) <= exceeded(alone)) / orders


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

    A way is at chance where no solver is above the limit, and none failed in it: what could not be asked is not known
    to be at chance. Both is above where the best is above what so many guess. Where there is a ``verifier``, an item is
    kept only if that one too chooses its key with both, in most orders. ``left_out`` are reasons by id for which items
    are not kept whatever is answered. Raises ValueError without solvers.
    """
    if not solvers:
        raise ValueError("certify: no solver")
    certificates, right = list[Certificate](), {way: dict[str, float]() for way in ways}
    for item in items:
        orders = orders_of(item, turns, seed)
        asked = {way: _asked(item, way, orders, solvers) for way in ways}
        reason = (left_out or {}).get(item.id, "")
        certificate = _verified(_certificate(item, asked, len(orders), reason), item, orders, verifier)
        for way, share in certificate.shares.items():
            right[way][item.id] = share
        certificates.append(certificate)
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


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The share of right orders of each solver that answered them all in a way, and whether one failed in some."""

    shares: Sequence[float]
    failed: bool


def _asked(item: Item, way: str, orders: Sequence[Sequence[int]], solvers: Sequence[Solver]) -> _Asked:
    shares, failed = [], False
    for solver in solvers:
        places = [solver(item, way, order) for order in orders]
        if FAILED in places:
            failed = True
        elif None not in places:
            hits = [
                place is not None and 0 <= place < len(order) and order[place] == item.key
                for place, order in zip(places, orders, strict=True)
            ]
            shares.append(sum(hits) / len(orders))
    return _Asked(shares=shares, failed=failed)


def _certificate(item: Item, asked: Mapping[str, _Asked], orders: int, left_out: str) -> Certificate:
    lacking = [way for way in (*LACKING, TRANSCRIPT) if way in asked]
    failed = [way for way in lacking if asked[way].failed]
    # The best of the panel: an item that one of them guesses can be guessed.
    best = {way: max(found.shares) for way, found in asked.items() if found.shares}
    chance, panel = 1 / len(item.options), len(asked[BOTH].shares)
    # All right is above chance even where two standard errors reach it, as of two options in four orders.
    all_right = 1 - 1 / orders
    guessed = [f"{way} alone" for way in lacking if best.get(way, 0.0) > min(limit(chance, orders), all_right)]
    solved = best.get(BOTH, 0.0) > min(limit_of_best(chance, orders, max(1, panel)), all_right)
    if asked[BOTH].failed and not panel:
        failed.append(BOTH)
    missing = [way for way in (*LACKING, BOTH) if way not in best and way not in failed]
    reasons = [
        left_out,
        f"answered with {' and '.join(guessed)}" if guessed else "",
        f"not asked with {' and '.join(missing)}" if missing else "",
        f"could not be asked with {' and '.join(failed)}" if failed else "",
        "" if solved else "not answered with both",
    ]
    reason = next((reason for reason in reasons if reason), "")
    shares = {way: share for way, share in best.items() if way not in failed}
    return Certificate(item=item.id, shares=shares, orders=orders, kept=not reason, reason=reason, solved=solved)


def _verified(
    certificate: Certificate, item: Item, orders: Sequence[Sequence[int]], verifier: Solver | None
) -> Certificate:
    """The certificate with what the verifier says, which alone keeps it."""
    if verifier is None:
        return certificate
    shares = _asked(item, BOTH, orders, [verifier]).shares
    verified = shares[0] > 1 / 2 if shares else None
    found = {True: "", False: "another model finds its key wrong", None: "not verified"}[verified]
    reason = certificate.reason or found
    return replace(certificate, verified=verified, reason=reason, kept=not reason)


def _of_twins(certificates: Sequence[Certificate], twins: Mapping[str, str]) -> Estimate:
    """The share of pairs of which both items are answered with both, whatever the order."""
    solved = {c.item: c.shares.get(BOTH) == 1.0 for c in certificates}
    pairs = defaultdict[tuple[str, ...], list[bool]](list)
    for name, other in twins.items():
        if name in solved and other in solved:
            pairs[tuple(sorted((name, other)))] = [solved[name], solved[other]]
    return clustered_estimate([float(all(pair)) for pair in pairs.values()], [str(pair[0]) for pair in pairs])
