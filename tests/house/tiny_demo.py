"""The demo in miniature, in a process of its own: ``python tiny_demo.py OUT`` prints its summary."""

import json
import sys
from pathlib import Path

from flywheel.demo import Size, run_demo

TINY = Size(
    num_clips=96,
    num_rounds=2,
    settings={
        "pretrain": {"num_steps": 12, "save_every": 4},
        "finetune": {"num_steps": 6, "min_corrections": 1},
        "loss": {"human_every": 5},
        "evaluate": {"diversity_tokens": 100, "resamples": 200, "agreement_pairs": 8},
        "gate": {"untested": "promote"},
    },
    ceiling=True,
    quick=True,
)

if __name__ == "__main__":
    print(json.dumps(run_demo(Path(sys.argv[1]), seed=7, noise=0.5, size=TINY)))
