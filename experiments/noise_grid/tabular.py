"""The grid on the tabular bed: kind x rate x loss x seed, total variation distance to the clean conditional.

    python experiments/noise_grid/tabular.py --out experiments/noise_grid/results/tabular.jsonl

Seeds 0 to 19 are reported; 200 to 204 only choose the best hand-set gamma of each cell. One JSON line per cell, loss
and seed; what is there already is not run again. ``--anchors`` adds how the noise rate's interval depends on the number
of anchors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import bed
import torch

RATES = (0.1, 0.3, 0.5, 0.7)
CELLS = [("clean", 0.0), *((kind, rate) for kind in bed.KINDS for rate in RATES)]
GAMMAS = (1e-7, 1e-3, 1e-2, 0.1, 0.3, 0.8)
SEEDS, CHOOSING_SEEDS = range(20), range(200, 205)
#: Table size of the text-only model: 1024 bigrams and 192 placed words need no more.
ADATAILR = {"buckets": 1 << 14}
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("mle", {}),
    *(("tailr", {"gamma": gamma}) for gamma in GAMMAS),
    ("label_smoothing", {"amount": 0.1}),
    ("gce", {"power": 0.7}),
    ("dft", {}),
    ("loss_truncation", {"share": 0.3}),
    ("error_norm_truncation", {"share": 0.1}),
    ("adatailr", {"rule": "sharpness"}),
    ("adatailr", ADATAILR),
]
STATELESS = ("mle", "label_smoothing", "gce", "dft", "tailr")


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    with out.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--anchors", action="store_true", help="only the study of anchor numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    have = {(r["kind"], r["rate"], r["loss"], json.dumps(r["arguments"]), r["anchors"], r["seed"]) for r in done}
    # One setting after another over all cells, so that a part of the study is a part of each cell.
    if options.anchors:
        jobs = [
            (kind, rate, "adatailr", ADATAILR, anchors, seed)
            for anchors in (8, 15, 30, 60, 120, 240)
            for seed in SEEDS
            for kind, rate in (("clean", 0.0), ("other clip", 0.3), ("substitution", 0.3))
        ]
    else:
        jobs = [
            (kind, rate, loss, arguments, 60, seed)
            for loss, arguments in LOSSES
            for kind, rate in CELLS
            for seed in (*(CHOOSING_SEEDS if loss == "tailr" else ()), *SEEDS)
        ]
    jobs = [job for job in jobs if (*job[:3], json.dumps(job[3]), *job[4:]) not in have]
    while jobs:
        kind, rate, loss, arguments, anchors, _ = jobs[0]
        count = (
            sum(job[:5] == jobs[0][:5] for job in jobs[:25])
            if loss in STATELESS and not arguments.get("warmup_steps")
            else 1
        )
        seeds = [job[5] for job in jobs[:count]]
        jobs = jobs[count:]
        distances, figures = bed.learn(
            [bed.make(kind, rate, s, num_anchors=anchors) for s in seeds], seeds, loss, arguments
        )
        write(
            options.out,
            [
                {
                    "kind": kind,
                    "rate": rate,
                    "loss": loss,
                    "arguments": arguments,
                    "anchors": anchors,
                    "seed": seed,
                    "tvd": round(d, 5),
                    "figures": {k: round(v, 5) for k, v in figures.items()} if len(seeds) == 1 else {},
                }
                for seed, d in zip(seeds, distances, strict=True)
            ],
        )


if __name__ == "__main__":
    main()
