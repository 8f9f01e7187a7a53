"""Batches with and without video under ZeRO-3: two ranks, one clip each a step, every other clip without frames.

``python -m experiments.devices.mixed``: both ways' losses, and the largest difference. Without the blank rows of
``trainers.forms`` the ranks would wait for each other until the time limit.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "trainers"))

STEPS = 6


def clip(clip_id: str) -> Any:
    """A drawn clip; of odd numbers without frames."""
    from training_bed import picture

    whole = picture(clip_id)
    return replace(whole, frames_THWC=None, times_s=()) if int(clip_id) % 2 else whole


def trained(folder: Path, *, strategy: str, parts: int) -> list[float]:
    """The loss of each step."""
    from training_bed import PROMPT, Sink, examples, fresh

    import trainers
    from flywheel.core.config import Pretrain
    from noise_control import losses
    from trainers import mark_trained
    from trainers.sharding import deepspeed_config

    vlm, builder = fresh()
    # As pretraining has it. Trained, the tower would differ for another reason: DeepSpeed steps weights without a
    # gradient by their moments, torch leaves them.
    mark_trained(vlm.model, Pretrain())
    sharding = deepspeed_config(strategy, offload=False) if strategy.startswith("zero") else None
    if sharding is not None:
        sharding["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    plan = trainers.TrainingPlan(
        num_steps=STEPS, batch_size=2, learning_rate=1e-4, log_every=1, parts=parts, deepspeed=sharding
    )
    data = trainers.TrainingSet(examples=examples(12, "g"), input=clip, prompt=PROMPT, dropout={}, seed=0)
    sink = Sink()
    trainers.train(vlm, builder, data, losses.build("mle"), plan, folder, sink=sink, label="t")
    return [values["t/loss"] for values, _ in sink.logged if "t/loss" in values]


def main() -> None:
    """As a rank train; else start two, and compare."""
    if "RANK" in os.environ:
        from trainers.rank import run_rank

        folder = Path(sys.argv[1])

        def work() -> None:
            losses = trained(folder / "work", strategy="zero3", parts=1)
            if os.environ["RANK"] == "0":
                (folder / "losses.json").write_text(json.dumps(losses))

        run_rank(folder, work, section="mixed")
    from flywheel.core.progress import progress
    from trainers.launch import Ranks, run_ranks

    with tempfile.TemporaryDirectory() as name, progress("mixed", STEPS) as bar:
        run_ranks("experiments.devices.mixed", Path(name), Ranks(count=2, timeout_s=120.0), label="mixed", bar=bar)
        two = json.loads((Path(name) / "losses.json").read_text())
        one = trained(Path(name) / "one", strategy="single", parts=2)
    apart = max(abs(a - b) for a, b in zip(one, two, strict=True))
    print(json.dumps({"case": "mixed-zero3", "one": one, "two": two, "apart": apart}))


if __name__ == "__main__":
    main()
