"""How many seconds of people find a better candidate, by corrections and by blind choices.

    python -m experiments.preference.seconds [--simulations 4000] [--seed 4] > experiments/preference/seconds.jsonl

Champion and candidate tell nine facts of a clip, each right with a chance; on a share of the facts both are right or
wrong together. Who chooses prefers the text with more right facts, sides by chance where they are equal unless that
person says so, and errs at a rate. A correction gives the clip's truth, by which both texts' fact F1 is known exactly,
so corrections are shown at their best. Plans are the gate's, for power .9 at level .05; then the plan is tried.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import scipy

from experiments.preference.run import reached
from flywheel.metrics.paired import items_needed
from flywheel.metrics.preference import choices_needed

_FACTS, _LEVEL, _POWER = 9, 0.05, 0.9
#: What people take for either, assumed: seconds.
SECONDS = {"correction": 40.0, "choice": 12.0}
_KNOWN = 400_000


def texts(rng: np.random.Generator, shape: tuple[int, ...], old: float, new: float, shared: float) -> np.ndarray:
    """Right facts of the candidate's text less the champion's."""
    fate = rng.random((*shape, _FACTS))
    other = np.where(rng.random(fate.shape) < shared, fate, rng.random(fate.shape))
    return (fate < new).sum(axis=-1) - (other < old).sum(axis=-1)


def chosen(rng: np.random.Generator, better_by: np.ndarray, error: float, says_equal: bool) -> np.ndarray:
    """What a person chooses: 1 for the candidate."""
    flip = rng.random(better_by.shape) < error
    choice = np.where((better_by > 0) != flip, 1.0, 0.0)
    return np.where(better_by == 0, 0.5 if says_equal else (rng.random(better_by.shape) < 0.5) * 1.0, choice)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    rng, count = np.random.default_rng(options.seed), options.simulations
    for old, new, shared in ((0.7, 0.74, 0.8), (0.7, 0.78, 0.8), (0.7, 0.78, 0.3), (0.7, 0.85, 0.8), (0.9, 0.94, 0.8)):
        for error, says_equal in ((0.05, True), (0.15, True), (0.05, False)):
            known = texts(rng, (_KNOWN,), old, new, shared)
            picked = chosen(rng, known, error, says_equal)
            win_rate, ties = float(picked.mean()), float((picked == 0.5).mean())
            choices = choices_needed(win_rate, _LEVEL, _POWER, ties=ties).needed
            spread = float(known.std()) / _FACTS
            corrections = items_needed(float(known.mean()) / _FACTS, spread, _LEVEL, _POWER)
            tried = reached(chosen(rng, texts(rng, (count, choices), old, new, shared), error, says_equal), _LEVEL)
            scores = texts(rng, (count, corrections), old, new, shared)
            t = scores.mean(axis=1) / np.maximum(scores.std(axis=1, ddof=1), 1e-9) * np.sqrt(corrections)
            found = scipy.stats.t.sf(t, corrections - 1) <= _LEVEL
            row = {"facts_right": [old, new], "shared": shared, "error": error, "says_equal": says_equal}
            row |= {"simulations": count, "seed": options.seed, "win_rate": win_rate, "ties": ties}
            row |= {"choices": choices, "power_choices": float(tried.mean())}
            row |= {"corrections": corrections, "power_corrections": float(found.mean())}
            row |= {"s_choices": choices * SECONDS["choice"], "s_corrections": corrections * SECONDS["correction"]}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
