"""Does the watch see a wheel collapse before it has, and does the default wheel not collapse?

    python experiments/collapse/run.py --out /tmp/collapse --seed 101 --rounds 8

Two wheels on the same 400 clips. ``default`` is the demo's. ``collapsing`` replaces: each round learns the newest machine texts alone, sampled at temperature
1.2, from the model before it, without people, transcripts, anchors, or a noise-robust loss; every round is promoted. Prints for each round slot F1 on the test
split (the oracle's, which the watch does not see), the watch's figures, and its alarms.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import flywheel.demo as demo
from flywheel.demo import Oracle, test_scores
from flywheel.metrics import mean_estimate
from flywheel.rounds import RoundContext
from flywheel.rounds.watch import alarms_of, watched
from flywheel.store import Workspace

WHEELS: dict[str, tuple[dict[str, Any], bool]] = {
    "collapsing": (
        {
            "annotate": {"temperature": 1.2, "hints": []},
            "pretrain": {"texts": "newest", "start": "previous", "transcript_dropout": 1.0, "previous_dropout": 1.0},
            "loss": {"name": "mle"},
            "gate": {"untested": "promote"},
        },
        False,
    ),
    "default": ({}, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--wheels", nargs="+", default=list(WHEELS))
    arguments = parser.parse_args()
    demo.NUM_ROUNDS, demo.NUM_CLIPS = arguments.rounds, 400
    for name in arguments.wheels:
        settings, people = WHEELS[name]
        folder = arguments.out / name
        if not (folder / "summary.json").exists():
            demo.run_demo(
                folder,
                seed=arguments.seed,
                noise=0.5,
                quick=False,
                settings={**settings, "tracking": {"enabled": False}},
                people=people,
            )
        workspace = Workspace.open(folder)
        oracle, context = Oracle(folder / "oracle.parquet"), RoundContext(workspace)
        series = []
        for round in range(arguments.rounds + 1):
            series.append(watched(context, round))
            line = {
                "wheel": name, "round": round, "slot_f1": mean_estimate(test_scores(workspace, oracle, round)).value,
                "verdict": workspace.stage(round, "gate")[1].get("verdict"), "alarms": [a["reason"] for a in alarms_of(series)],
                **{k: round_(v["value"]) for k, v in series[-1].items()},
            }  # fmt: skip
            print(json.dumps(line), flush=True)


def round_(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
