"""How often a gate of two measures promotes candidates that are no better, and finds one that is better.

    python experiments/preference/gate.py [--simulations 20000] [--seed 2] > gate.jsonl

A champion meets candidates one after the other. Of each, people choose blind, one look after every choice; then its
word overlap with corrected anchors is tested (by the t test, which sign flips of a mean approach). Levels are the
gate's: alpha / (j (j + 1)) for the j-th candidate, half of it for each measure.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import scipy

from experiments.preference.run import drawn, reached
from flywheel.metrics.paired import level_of_look

_CANDIDATES, _CHOICES, _ANCHORS, _ALPHA = 8, 200, 40, 0.05


def promoted(rng: np.random.Generator, count: int, win_rate: float, gain: float, look: int) -> dict[str, np.ndarray]:
    """Simulations in which each measure promotes the ``look``-th candidate; ``gain`` in standard deviations."""
    level = level_of_look(_ALPHA, look) / 2
    by_choice = reached(drawn(rng, (count, _CHOICES), win_rate), level)
    scores = rng.normal(gain, 1, (count, _ANCHORS))
    t = scores.mean(axis=1) / (scores.std(axis=1, ddof=1) / np.sqrt(_ANCHORS))
    return {"preference": by_choice, "token_f1": scipy.stats.t.sf(t, _ANCHORS - 1) <= level}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    rng, count = np.random.default_rng(options.seed), options.simulations
    fixed = {"simulations": count, "seed": options.seed, "alpha": _ALPHA, "choices": _CHOICES, "anchors": _ANCHORS}
    any_of = np.zeros(count, bool)
    by = {"preference": np.zeros(count, bool), "token_f1": np.zeros(count, bool)}
    for look in range(1, _CANDIDATES + 1):
        for name, which in promoted(rng, count, 0.5, 0.0, look).items():
            by[name] |= which
            any_of |= which
    shares = {f"by_{name}": float(which.mean()) for name, which in by.items()}
    equal = {"what": "equal candidates", "candidates": _CANDIDATES, "any_promoted": float(any_of.mean()), **shares}
    print(json.dumps({**fixed, **equal}), flush=True)
    for what, win_rate, gain in (
        ("better, in other words", 0.7, -0.3),
        ("better, in the champion's words", 0.7, 0.6),
        ("worse, in the champion's words", 0.4, 0.6),
    ):
        which = promoted(rng, count, win_rate, gain, 1)
        shares = {f"by_{name}": float(share.mean()) for name, share in which.items()}
        print(json.dumps({**fixed, "what": what, "win_rate": win_rate, "gain_sd": gain, **shares}), flush=True)


if __name__ == "__main__":
    main()
