"""The table of README.md from the lines that run.py printed: python experiments/queue_orders/report.py out.jsonl"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from flywheel.metrics import mean_estimate
from flywheel.metrics.intervals import paired_difference


def main() -> None:
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines() if line.startswith('{"seed"')]
    by: dict[str, dict[int, list[dict]]] = defaultdict(lambda: defaultdict(list))  # type: ignore[type-arg]
    for line in lines:
        by[line["order"].split()[0]][line["seed"]].append(line)
    seeds = sorted(by["random"])
    random_repaired = {s: np.mean([v for line in by["random"][s] for v in line["repaired_each"]]) for s in seeds}
    random_scores = {s: np.mean([line["scores"] for line in by["random"][s]], axis=0) for s in seeds}
    print("| order | repaired per correction | against random | test slot F1 gained | against random |")
    print("|---|---|---|---|---|")
    for name, found in by.items():
        each = [v for s in seeds for line in found[s] for v in line["repaired_each"]]
        scores = {s: np.mean([line["scores"] for line in found[s]], axis=0) for s in seeds}
        before = {s: np.array(found[s][0]["before"]) for s in seeds}
        gain = paired_difference(np.concatenate([scores[s] for s in seeds]), np.concatenate([before[s] for s in seeds]))
        ahead = paired_difference(
            np.concatenate([scores[s] for s in seeds]), np.concatenate([random_scores[s] for s in seeds])
        )
        per_seed = ", ".join(f"{float((scores[s] - random_scores[s]).mean()):+.3f}" for s in seeds)
        repaired = mean_estimate(each)
        times = [np.mean([v for line in found[s] for v in line["repaired_each"]]) / random_repaired[s] for s in seeds]
        print(
            f"| {name} | {repaired.value:.3f} [{repaired.low:.3f}, {repaired.high:.3f}] | "
            f"x {np.mean(times):.2f} ({', '.join(f'{t:.2f}' for t in times)}) | "
            f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] | "
            f"{ahead.value:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}] ({per_seed}) |"
        )


if __name__ == "__main__":
    main()
