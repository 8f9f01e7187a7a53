"""Does the watch see a wheel collapse before it has, and does the default wheel not collapse?

    python experiments/collapse/run.py --out /tmp/collapse --seed 204 --rounds 8

``default`` is the demo's wheel on 400 clips, with people, for so many rounds. ``good`` is its first three rounds with
weights merged; from its last model as their base, and on 2,000 other clips of which half are the test split (the watch
reads at most 1,000 texts), two wheels without people go on: ``collapsing`` learns the newest machine texts alone,
sampled at temperature 1.2, by small steps from the model before it, without transcripts, human rows or a noise-robust
loss, and every round is promoted; ``kept`` differs from it in policy alone: each round starts from the base, and older
texts and transcripts stay in the mix. Prints for each round slot F1 on the test split (the oracle's, which the watch
does not see), the watch's figures and its alarms; ``plot.py`` draws them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import flywheel.demo as demo
from flywheel.demo import Oracle, test_scores
from flywheel.metrics import mean_estimate
from flywheel.rounds import RoundContext
from flywheel.rounds.texts import Texts
from flywheel.rounds.watch import alarms_of, collapse_figures_of
from flywheel.store import Workspace

QUIET: dict[str, Any] = {"tracking": {"enabled": False}}
#: What `collapsing` and `kept` share.
SAMPLED: dict[str, Any] = {
    **QUIET,
    "annotate": {"temperature": 1.2, "hints": []},
    "evaluate": {"agreement_pairs": 0},
    "gate": {"untested": "promote"},
    "loss": {"name": "mle"},
}
SMALL_STEPS = {"num_steps": 60, "learning_rate": 5e-6, "texts": "newest"}


def settings_of(name: str, good: Path) -> tuple[dict[str, Any], bool]:
    """A wheel's settings, and whether people correct."""
    match name:
        case "default":
            return QUIET, True
        case "replace":
            return {**QUIET, "pretrain": {"mix": "replace"}}, True
        case "good":
            return {**QUIET, "finetune": {"merge": True}}, True
        case "collapsing":
            policy = {"mix": "replace", "start": "previous"}
        case "kept":
            policy = {"mix": "accumulate", "start": "base"}
        case _:
            raise ValueError(name)
    return {
        **SAMPLED,
        "corpus": {"model": str(good / "models" / "round=003" / "merged"), "test_share": 0.5},
        "pretrain": {**SMALL_STEPS, **policy},
    }, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=202)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--wheels", nargs="+", default=["good", "collapsing", "kept", "default"])
    arguments = parser.parse_args()
    for name in arguments.wheels:
        folder = arguments.out / f"{name}-{arguments.seed}"
        num_rounds = 3 if name == "good" else arguments.rounds
        num_clips = 2000 if name in ("collapsing", "kept") else 400
        size = replace(demo.FULL, num_rounds=num_rounds, num_clips=num_clips, ceiling=False)
        settings, people = settings_of(name, arguments.out / f"good-{arguments.seed}")
        if not (folder / "summary.json").exists():
            # Other clips than those that made the model good.
            seed = arguments.seed if people else arguments.seed + 1000
            demo.run_demo(folder, seed=seed, noise=0.5, size=size, settings=settings, people=people)
        _print(name, arguments.seed, folder)


def _print(name: str, seed: int, folder: Path) -> None:
    workspace = Workspace.open(folder)
    oracle, context = Oracle(folder / "oracle.parquet"), RoundContext(workspace)
    series = []
    for round in workspace.rounds():
        series.append(collapse_figures_of(context, Texts(workspace), round))
        line = {
            "wheel": name,
            "seed": seed,
            "round": round,
            "slot_f1": mean_estimate(test_scores(workspace, oracle, round)).value,
            "verdict": workspace.stage(round, "gate")[1].get("verdict"),
            "alarms": [a.reason for a in alarms_of(series)],
            "older_rounds": workspace.stage(round, "pretrain")[1].get("older_rounds"),
            **{k: round_(v.value) for k, v in series[-1].items()},
        }
        print(json.dumps(line), flush=True)


def round_(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
