"""How near the loop comes to sounds before damage: ``python -m experiments.repair.bands --seed S --clips N``.

On the clips of :mod:`experiments.repair.end_use`, without a network: what evaluates is the distance of band levels
(:func:`experiments.repair.controls.off_db`), which is no reward. Rewards are calibrated on the same clips. One line
of JSON for each planner and damage.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from experiments.repair.controls import off_db, summary
from experiments.repair.end_use import made
from flywheel.curation.repair.calibrating import Calibrating
from flywheel.curation.repair.loop import Limits, repair
from flywheel.curation.repair.measures import measures
from flywheel.curation.repair.planners import Case, planner
from flywheel.playground.av import SAMPLE_RATE
from flywheel.playground.corpus import SEED_STRIDE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--planners", nargs="*", default=["rules", "random"])
    parser.add_argument("--quality-margin", type=float, default=Limits().quality_margin)
    arguments = parser.parse_args()
    clips = [made(arguments.seed * SEED_STRIDE + number) for number in range(arguments.clips)]
    calibrating = Calibrating()
    for number, clip in enumerate(clips):
        calibrating.add(clip.heard, SAMPLE_RATE, clip.picture, str(number))
    usual, rewards = calibrating.result()
    limits = Limits(falls=rewards.falls, quality_margin=arguments.quality_margin)
    for name in arguments.planners:
        results: dict[str, list[dict[str, Any]]] = {}
        for number, clip in enumerate(clips):
            case = Case(key=str(number), measures=measures(clip.heard, SAMPLE_RATE, clip.picture), norms=usual)
            edited, trace = repair(
                clip.heard,
                SAMPLE_RATE,
                case,
                planner(name),
                lambda s, picture=clip.picture: rewards.of(s, SAMPLE_RATE, picture),  # type: ignore[misc]
                limits=limits,
            )
            before, first = off_db(clip.heard, clip.clean), planner(name)(case, [])
            after = before if edited is None else off_db(edited, clip.clean)
            blind = off_db(first.apply(clip.heard, SAMPLE_RATE), clip.clean) if first else before
            result = {"outcome": trace.outcome, "before": before, "after": after, "blind": blind}
            for group in (clip.damage or "clean", "all"):
                results.setdefault(group, []).append(result)
        for group, of_group in sorted(results.items()):
            row = {"seed": arguments.seed, "planner": name, "damage": group, **summary(of_group)}
            print(json.dumps(row | {"cpu_s": round(time.process_time(), 1)}), flush=True)


if __name__ == "__main__":
    main()
