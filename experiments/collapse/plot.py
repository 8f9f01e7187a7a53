"""Draws what run.py printed:
python experiments/collapse/plot.py experiments/collapse/results.jsonl --out experiments/collapse/curves.png"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FIGURES = {
    "slot_f1": "slot F1, test clips (oracle)",
    "unknown": "words that nobody else said",
    "from_origin": "divergence from the transcripts",
    "vendi": "Vendi score, per text",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [json.loads(line) for file in arguments.files for line in file.read_text().splitlines()]
    wheels = list(dict.fromkeys((r["wheel"], r["seed"]) for r in rows))
    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, title) in enumerate(FIGURES.items()):
        axes = figure.add_subplot(2, 2, place + 1)
        for number, wheel in enumerate(wheels):
            mine = [r for r in rows if (r["wheel"], r["seed"]) == wheel and r.get(name) is not None]
            axes.plot(
                [r["round"] for r in mine],
                [r[name] for r in mine],
                color=f"C{number}",
                label=f"{wheel[0]}, seed {wheel[1]}",
            )
            rung = [r for r in mine if r["alarms"]]
            axes.plot([r["round"] for r in rung], [r[name] for r in rung], "X", color=f"C{number}", markersize=9)
        axes.set_title(f"{title}{' (X: alarm)' * (place == 0)}")
        axes.set_xlabel("round")
        axes.grid(alpha=0.3)
    figure.axes[2].legend(fontsize=8, loc="upper right")
    figure.savefig(arguments.out, dpi=100)


if __name__ == "__main__":
    main()
