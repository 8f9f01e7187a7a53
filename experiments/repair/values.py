"""How far planned values are off: ``python -m experiments.repair.values --seed S --clips 60``, a JSON line for each.

The playground's audio-visual world as arrays, without a codec: so many clips of each damage that has a value, and as
many whole ones, among which it is told what is usual. What the rules do not plan is counted, not averaged.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from flywheel.curation.repair.measures import Measures, Picture, measures, norms
from flywheel.curation.repair.planners import Case, planner
from flywheel.playground.av import CORPUS, DURATION_S, SAMPLE_RATE, sample, sound
from flywheel.playground.av.damage import damage
from flywheel.playground.av.drawing import frames
from flywheel.playground.corpus import SEED_STRIDE
from flywheel.sound.motion import visual_events

FPS, WIDTH, HEIGHT = 25, 96, 64
VALUES = {"late": ("shift", "seconds"), "fast": ("speed", "rate"), "quiet": ("gain", "db")}


def drawn(seed: int, kind: str) -> tuple[Measures, float]:
    """A clip's figures, and the value that mends its damage; 0 for a whole one."""
    timeline, times_s = sample(seed, CORPUS), np.arange(round(DURATION_S * FPS)) / FPS
    heard, value = sound(timeline), 0.0
    if kind:
        heard, done = damage(heard, timeline, kind, np.random.default_rng([seed, 67867967]), SAMPLE_RATE)
        value = done.parameters[VALUES[kind][1]]
    grey = np.stack(list(frames(timeline, list(times_s), WIDTH, HEIGHT))).mean(axis=3).astype(np.uint8)
    seen_s, events = visual_events(grey, times_s)
    return measures(heard, SAMPLE_RATE, Picture(events=events, times_s=seen_s)), value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=60)
    arguments = parser.parse_args()
    seeds = iter(range(arguments.seed * SEED_STRIDE, (arguments.seed + 1) * SEED_STRIDE))
    usual = norms(drawn(next(seeds), "")[0] for _ in range(arguments.clips))
    for kind, (action, parameter) in VALUES.items():
        off, others = [], 0
        for _ in range(arguments.clips):
            found, value = drawn(next(seeds), kind)
            made = planner("rules")(Case(key="x", measures=found, norms=usual), [])
            planned = {step.action: step.parameters for step in made.steps}
            if set(planned) == {action}:
                off.append(abs(planned[action][parameter] - value))
            else:
                others += 1
        median, high = np.quantile(off, [0.5, 0.95])
        line = {"seed": arguments.seed, "what": f"{action}.{parameter} off by", "n": len(off), "not_planned": others}
        line |= {"median": round(float(median), 4), "p95": round(float(high), 4), "most": round(max(off), 4)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
