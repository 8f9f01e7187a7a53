"""Is the evidence of choices honest when one looks after each, and does the plan keep its word?

    python experiments/preference/run.py [--simulations 20000] [--seed 1] > results.jsonl

Each row is a world: how the choices fall, how many simulations, the share that reached the level at some look.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import scipy

from flywheel.metrics.preference import WinRate, choices_needed

#: Looks, one after each choice, at a pair of texts that are equally good.
_MOST = 1000
Choices = np.ndarray


def least_wins(level: float, most: int) -> np.ndarray:
    """For each number of decided choices up to ``most``, the wins at which the evidence reaches 1 / ``level``."""
    out, wins = [], 0
    for n in range(most + 1):
        while wins <= n:
            tried = WinRate()
            tried._counts.update({1.0: wins, 0.0: n - wins})
            if tried.e_value >= 1 / level:
                break
            wins += 1
        out.append(wins)
    return np.array(out)


def reached(choices: Choices, level: float) -> np.ndarray:
    """Simulations (rows) in which the evidence reached 1 / ``level`` at some look. A tie is 1/2."""
    won, lost = (choices == 1).cumsum(axis=1), (choices == 0).cumsum(axis=1)
    return (won >= least_wins(level, choices.shape[1])[won + lost]).any(axis=1)


def peeked(choices: Choices, level: float) -> np.ndarray:
    """The same for one who looks after each choice with an ordinary one-sided binomial test."""
    won, lost = (choices == 1).cumsum(axis=1), (choices == 0).cumsum(axis=1)
    n = np.arange(choices.shape[1] + 1)
    enough = scipy.stats.binom.isf(level, n, 0.5) + 1
    return (won >= enough[won + lost]).any(axis=1)


def drawn(rng: np.random.Generator, shape: tuple[int, int], win: np.ndarray | float, ties: float = 0.0) -> Choices:
    choices = (rng.random(shape) < win).astype(np.float32)
    choices[rng.random(shape) < ties] = 0.5
    return choices


def mixed(rng: np.random.Generator, shape: tuple[int, int]) -> Choices:
    """On each video one text is nearly always better, on half of them this one."""
    return drawn(rng, shape, rng.beta(0.2, 0.2, size=shape))


def against(rng: np.random.Generator, shape: tuple[int, int]) -> Choices:
    """People get stricter with whoever leads: 1/2 while behind or even, .4 while ahead."""
    choices = np.zeros(shape, np.float32)
    ahead = np.zeros(shape[0])
    for n in range(shape[1]):
        choices[:, n] = rng.random(shape[0]) < np.where(ahead > 0, 0.4, 0.5)
        ahead += 2 * choices[:, n] - 1
    return choices


EQUAL: dict[str, Callable[[np.random.Generator, tuple[int, int]], Choices]] = {
    "coins": lambda rng, shape: drawn(rng, shape, 0.5),
    "30 % ties": lambda rng, shape: drawn(rng, shape, 0.5, 0.3),
    "70 % ties": lambda rng, shape: drawn(rng, shape, 0.5, 0.7),
    "videos differ": mixed,
    "stricter with who leads": against,
}


def covered(choices: Choices, truth: float, alpha: float) -> np.ndarray:
    """Simulations whose interval held the truth at every look, by the formula written out once more."""
    shares = 1 - (1 - (np.arange(64) + 0.5) / 64) ** (1 / 3)
    good = np.ones(len(choices), bool)
    up, down = (np.zeros((len(choices), 64)) for _ in range(2))
    for x in choices.T:
        up += np.log1p(shares * (x[:, None] / truth - 1))
        down += np.log1p(shares * ((1 - x[:, None]) / (1 - truth) - 1))
        for capital in (up, down):
            good &= np.exp(np.minimum(capital, 600)).mean(axis=1) < 2 / alpha
    return good


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, count = np.random.default_rng(options.seed), options.simulations

    def row(**values: object) -> None:
        print(json.dumps({"simulations": count, "seed": options.seed, **values}), flush=True)

    for name, world in EQUAL.items():
        choices = world(rng, (count, _MOST))
        for level in (0.05, 0.025):
            row(
                what="equal texts",
                world=name,
                looks=_MOST,
                level=level,
                reached=float(reached(choices, level).mean()),
                binomial_test_at_each_look=float(peeked(choices, level).mean()),
            )
    for win_rate in (0.6, 0.65, 0.7, 0.75):
        for ties in (0.0, 0.3):
            for level in (0.05, 0.0125):
                plan = choices_needed(win_rate, level, 0.9, ties=ties)
                p = (win_rate - ties / 2) / (1 - ties)
                choices = drawn(rng, (count, plan.needed), p, ties)
                row(
                    what="plan",
                    win_rate=win_rate,
                    ties=ties,
                    level=level,
                    needed=plan.needed,
                    typical=plan.typical,
                    reached=float(reached(choices, level).mean()),
                    reached_at_typical=float(reached(choices[:, : plan.typical], level).mean()),
                )
    few = count // 5
    for truth, ties in ((0.5, 0.0), (0.65, 0.3), (0.9, 0.0)):
        choices = drawn(rng, (few, 300), (truth - ties / 2) / (1 - ties), ties)
        share = float(covered(choices, truth, 0.05).mean())
        row(what="interval", truth=truth, ties=ties, looks=300, simulations=few, covered_at_all_looks=share)


if __name__ == "__main__":
    main()
