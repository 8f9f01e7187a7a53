"""How often a gate of three measures (choices, facts, token F1) promotes candidates that are no better.

    python -m experiments.preference.three [--simulations 20000] [--seed 3] > experiments/preference/three.jsonl

As gate.py, with facts between choices and words: fact F1 and token F1 of the same anchors, with a correlation. People
choose with a look after every choice. ``any_promoted`` counts a candidate as soon as one measure alone would promote
it, which is more than the gate does: there what is trusted more may object, and who invents more is refused.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import scipy

from experiments.preference.run import drawn, reached
from flywheel.metrics.paired import level_of_look

_CANDIDATES, _CHOICES, _ANCHORS, _ALPHA = 8, 200, 40, 0.05
NAMES = ("preference", "facts", "token_f1")


def promoted(
    rng: np.random.Generator, count: int, win_rate: float, gains: tuple[float, float], correlation: float, look: int
) -> dict[str, np.ndarray]:
    """Simulations in which each measure alone promotes the ``look``-th candidate; ``gains`` in standard deviations."""
    level = level_of_look(_ALPHA, look) / len(NAMES)
    shared = rng.normal(0, 1, (2, count, _ANCHORS))
    facts = gains[0] + shared[0]
    overlap = gains[1] + correlation * shared[0] + np.sqrt(1 - correlation**2) * shared[1]
    by = {"preference": reached(drawn(rng, (count, _CHOICES), win_rate), level)}
    for name, scores in (("facts", facts), ("token_f1", overlap)):
        t = scores.mean(axis=1) / (scores.std(axis=1, ddof=1) / np.sqrt(_ANCHORS))
        by[name] = scipy.stats.t.sf(t, _ANCHORS - 1) <= level
    return by


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    rng, count = np.random.default_rng(options.seed), options.simulations
    fixed = {"simulations": count, "seed": options.seed, "alpha": _ALPHA, "choices": _CHOICES, "anchors": _ANCHORS}
    for correlation in (0.0, 0.5, 0.9):
        by = {name: np.zeros(count, bool) for name in NAMES}
        for look in range(1, _CANDIDATES + 1):
            for name, which in promoted(rng, count, 0.5, (0.0, 0.0), correlation, look).items():
                by[name] |= which
        any_of = np.any(list(by.values()), axis=0)
        low, high = scipy.stats.binomtest(int(any_of.sum()), count).proportion_ci(method="exact")
        shares = {f"by_{name}": float(which.mean()) for name, which in by.items()}
        row = {"what": "equal candidates", "candidates": _CANDIDATES, "correlation": correlation}
        print(json.dumps({**fixed, **row, "any_promoted": float(any_of.mean()), "ci": [low, high], **shares}))
    which = promoted(rng, count, 0.7, (0.6, -0.3), 0.5, 1)
    shares = {f"by_{name}": float(share.mean()) for name, share in which.items()}
    print(json.dumps({**fixed, "what": "better, in other words", "win_rate": 0.7, "gains_sd": [0.6, -0.3], **shares}))


if __name__ == "__main__":
    main()
