"""How often the gate is wrong, on simulated scores: 4,000 rounds of each kind, with 95 % exact intervals.

    python experiments/gate/simulate.py --sims 4000 --seed 6

A clip has twelve facts. The champion gets each right with the clip's own chance (Beta(6, 2)), the candidate the same
way with that chance moved by what is simulated; of a fact both agree on by copying with chance 1/2, as two models from
one base do. A score is the share of facts right. Kinds:

- ``equal``: the same chances; ``lopsided``: the mean is equal, but the candidate is a little better on nine clips of
  ten and much worse on the tenth;
- ``clustered``: equal, four clips to a video with a common quirk of the candidate; the gate is told the videos;
- ``worse``: by half of ``gate.effect``; ``better``: by ``gate.effect``, with the number of anchors that the gate itself
  asked for (by the spread that a first 40 anchors show);
- ``thirty equal``: thirty equal candidates one after the other against one champion on the same anchors: any promoted?
- ``peeking``: one equal candidate asked of again after each ten new anchors, from 40 to 200: ever promoted?

Nothing in the gate was set on these seeds.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from flywheel.core.config import Gate
from flywheel.rounds.gate import Candidate, judge

FACTS = 12
SETTINGS = Gate()


def chances(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.beta(6, 2, n)


def champion_facts(rng: np.random.Generator, p: NDArray[np.float64]) -> NDArray[np.bool_]:
    return rng.random((len(p), FACTS)) < p[:, None]


def candidate_scores(
    rng: np.random.Generator, p: NDArray[np.float64], facts: NDArray[np.bool_], shift: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Half the facts copied, half drawn with the chance moved by twice ``shift``, so that the mean moves by ``shift``
    (chances stay within [0, 1], so a little less of it at the ends)."""
    own = rng.random(facts.shape) < np.clip(p + 2 * np.asarray(shift), 0, 1)[:, None]
    return np.where(rng.random(facts.shape) < 0.5, facts, own).mean(1)


def promoted(
    after: NDArray[np.float64], before: NDArray[np.float64], look: int = 1, groups: list[int] | None = None
) -> bool:
    candidate = Candidate(
        after=after.tolist(),
        before=before.tolist(),
        groups=groups or list(range(len(after))),
        refiners=frozenset({"a"}),
    )
    return judge(candidate, SETTINGS, look).verdict == "promoted"


def exact_shift(rng: np.random.Generator, wanted: float) -> float:
    """The shift that moves the mean by ``wanted`` in spite of the ends."""
    p = chances(rng, 200_000)
    grid = np.linspace(0, 4 * wanted, 81)
    moved = [float((np.clip(p + 2 * s, 0, 1) - p).mean() / 2) for s in grid]
    return float(np.interp(abs(wanted), np.abs(moved), grid))


def one(kind: str, shift: float, seed: int) -> tuple[bool, int]:
    rng = np.random.default_rng([seed, sum(kind.encode())])
    n = 60
    if kind == "better":
        p = chances(rng, 40)
        facts = champion_facts(rng, p)
        pilot = Candidate(
            after=candidate_scores(rng, p, facts, shift).tolist(),
            before=facts.mean(1).tolist(),
            groups=list(range(40)),
            refiners=frozenset({"a"}),
        )
        n = judge(pilot, SETTINGS, 1).needed
    if kind == "clustered":
        groups = [i // 4 for i in range(n)]
        p = chances(rng, n)
        facts = champion_facts(rng, p)
        quirk = np.repeat(rng.normal(0, 0.15, n // 4), 4)
        return promoted(np.clip(candidate_scores(rng, p, facts, 0.0) + quirk, -1, 2), facts.mean(1), groups=groups), n
    if kind in ("thirty equal", "peeking"):
        size = 60 if kind == "thirty equal" else 200
        p = chances(rng, size)
        facts = champion_facts(rng, p)
        if kind == "thirty equal":
            return any(
                promoted(candidate_scores(rng, p, facts, 0.0), facts.mean(1), look) for look in range(1, 31)
            ), size
        scores = candidate_scores(rng, p, facts, 0.0)
        return any(promoted(scores[:m], facts.mean(1)[:m], look) for look, m in enumerate(range(40, 201, 10), 1)), size
    p = chances(rng, n)
    facts = champion_facts(rng, p)
    moved: NDArray[np.float64] | float = shift
    if kind == "lopsided":
        scores = candidate_scores(rng, p, facts, 0.0)
        # +.04 on nine of ten, -.36 on the tenth: the mean is what it was.
        return promoted(scores + np.where(rng.random(n) < 0.1, -0.36, 0.04), facts.mean(1)), n
    return promoted(candidate_scores(rng, p, facts, moved), facts.mean(1)), n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument(
        "--kinds", nargs="+", default=["equal", "lopsided", "clustered", "worse", "better", "thirty equal", "peeking"]
    )
    arguments = parser.parse_args()
    better = exact_shift(np.random.default_rng(0), SETTINGS.effect)
    shifts = {"better": better, "worse": -SETTINGS.effect / 2}
    with ProcessPoolExecutor() as pool:
        for kind in arguments.kinds:
            sims = max(2000, arguments.sims // 2) if kind in ("thirty equal", "peeking") else arguments.sims
            seeds = range(arguments.seed * 1_000_000, arguments.seed * 1_000_000 + sims)
            found = list(pool.map(partial(one, kind, shifts.get(kind, 0.0)), seeds, chunksize=50))
            count = sum(yes for yes, _ in found)
            interval = binomtest(count, sims).proportion_ci(method="exact")
            line = {
                "kind": kind,
                "sims": sims,
                "promoted": count / sims,
                "low": float(interval.low),
                "high": float(interval.high),
                "anchors": float(np.mean([n for _, n in found])),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
