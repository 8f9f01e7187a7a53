"""Compares rules' plans with planted damage: ``python -m experiments.repair.confusion FOLDER --seed S --clips 240``.

Renders the playground's audio-visual world with 60 % of the sounds damaged, measures each clip as it lies on disk, and
compares the first plan with the oracle. One JSON line each: the matrix, the shares, and how far values are off.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flywheel.curation.repair.measures import Measures, Picture, measures, norms
from flywheel.curation.repair.planners import Case, planner
from flywheel.media.audio import read_audio
from flywheel.media.grey import read_grey
from flywheel.playground import write_av_playground
from flywheel.playground.av import DURATION_S
from flywheel.sound import actions
from flywheel.sound.motion import visual_events

RATE_HZ = 16_000
NOTHING = "nothing"


def measured(path: Path) -> Measures:
    """A clip's figures, from its file."""
    samples = read_audio(path, 0, DURATION_S, rate_hz=RATE_HZ)
    drawn_s, grey = read_grey(path, 0, DURATION_S)
    times_s, events = visual_events(grey, drawn_s)
    return measures(samples, RATE_HZ, Picture(events=events, times_s=times_s))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--planner", default="rules")
    arguments = parser.parse_args()
    folder = arguments.folder
    write_av_playground(
        folder, seed=arguments.seed, num_clips=arguments.clips, noise_rate=0.0, faults={}, damage_rate=0.6
    )
    oracle = pl.read_parquet(folder / "oracle.parquet").to_dicts()
    of = [measured(folder / "corpus" / row["file"]) for row in oracle]
    usual, plan = norms(of), planner(arguments.planner)
    rows = []
    for row, found in zip(oracle, of, strict=True):
        made = plan(Case(key=row["file"], measures=found, norms=usual), [])
        rows.append({**row, "plan": made})
    for line in report(rows):
        print(json.dumps({"seed": arguments.seed, "planner": arguments.planner, **line}), flush=True)


def report(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The matrix of damage and planned actions; right families and actions of damaged clips, clean ones left alone."""
    matrix: dict[str, Counter[str]] = {}
    for row in rows:
        planned = "+".join(step.action for step in row["plan"].steps) or NOTHING
        matrix.setdefault(row["damage"] or "clean", Counter())[planned] += 1
    damaged = [row for row in rows if row["damage"]]
    clean = [row for row in rows if not row["damage"]]
    family, action = [], []
    for row in damaged:
        planned = [step.action for step in row["plan"].steps]
        families = {actions.action(name).family for name in planned}
        family.append(families == {actions.action(row["action"]).family})
        action.append(planned == [row["action"]])
    shares = {
        "family": np.mean(family),
        "action": np.mean(action),
        "left_alone": np.mean([not r["plan"] for r in clean]),
    }
    lines: list[dict[str, Any]] = [
        {"what": "matrix", **{kind: dict(counts.most_common()) for kind, counts in sorted(matrix.items())}},
        {"what": "shares", "damaged": len(damaged), "clean": len(clean)}
        | {name: round(float(share), 4) for name, share in shares.items()},
    ]
    for name, parameter in (("shift", "seconds"), ("speed", "rate"), ("gain", "db")):
        off = [
            abs(step.parameters[parameter] - row["value"])
            for row in damaged
            for step in row["plan"].steps
            if row["action"] == step.action == name
        ]
        if off:
            median, high = np.quantile(off, [0.5, 0.95])
            value = {"median": round(float(median), 4), "p95": round(float(high), 4), "most": round(max(off), 4)}
            lines.append({"what": f"{name}.{parameter} off by", "n": len(off), **value})
    return lines


if __name__ == "__main__":
    main()
