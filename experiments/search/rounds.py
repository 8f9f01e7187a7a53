"""Whether texts of later rounds retrieve better: encoders that learn from each, asked by true descriptions.

``python -m experiments.search.rounds WORKSPACE --seeds 0 1 2 --out FILE`` takes a workspace that ``flywheel demo --out
WORKSPACE`` made. An arm is what the train clips' texts are: those of each round, and of the last round for a random
half of the clips. The same small encoder learns from each, and is asked for test clips, which no stage learns from, by
the oracle's descriptions. A JSON line an arm and seed: recall@1 with its interval, and by how much it is above that of
round 0 (paired by query).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.types import Clip
from flywheel.metrics.intervals import mean_estimate
from flywheel.rounds import RoundContext
from flywheel.rounds.encoder_clips import TextsOf
from flywheel.rounds.retrieval import found_first, read_anchors, trained_on
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipView


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        context = RoundContext(Workspace.open(arguments.workspace, overrides=[f"index.seed={seed}"]))
        settings = context.config.retrieve.model_copy(update={"steps": arguments.steps})
        clips, words = described(context, arguments.workspace / "oracle.parquet", arguments.asked)
        text_of = {clip.id: text for clip, text in zip(clips, words, strict=True)}
        clips, pictures = read_anchors(context, clips)
        first: NDArray[np.float64] | None = None
        for arm, train, texts_of in arms(context, seed):
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                encoder = trained_on(context, train, texts_of, Path(folder) / "e", settings)
            hits = found_first(encoder, pictures, [text_of[clip.id] for clip in clips])
            first = hits if first is None else first
            facts: dict[str, Any] = {"arm": arm, "seed": seed, "steps": arguments.steps, "train_clips": len(train)}
            facts |= {"asked": len(hits), "chance": 1 / len(hits), "recall@1": asdict(mean_estimate(hits))}
            facts |= {"over round 0": asdict(mean_estimate(hits - first))}
            facts["cpu_s"] = round(time.process_time() - began, 1)
            print(json.dumps(facts), flush=True)
            with arguments.out.open("a") as out:
                out.write(json.dumps(facts) + "\n")


def arms(context: RoundContext, seed: int) -> Iterator[tuple[str, ClipView, TextsOf]]:
    """Names, clips, and the clips' texts; those of round 0 first."""
    train, current = context.split("train"), context.texts()

    def of(number: int) -> TextsOf:
        return lambda clips: {i: a.text for i, a in current.of(number, [clip.id for clip in clips]).items()}

    for number in sorted(current.rounds):
        yield f"round {number}", train, of(number)
    half = train.columns("id")["id"].sample(fraction=0.5, seed=seed)
    yield f"round {max(current.rounds)}, a random half", train.with_ids(half), of(max(current.rounds))


def described(context: RoundContext, oracle: Path, most: int) -> tuple[list[Clip], list[str]]:
    """Test clips and their true descriptions, of files that are one clip and that no other description fits."""
    rows = pl.read_parquet(oracle).unique("text", keep="none")
    text_of = dict(rows.select("file", "text").iter_rows())
    clips = [clip for clip in context.split("test") if Path(clip.uri).name in text_of][:most]
    return clips, [text_of[Path(clip.uri).name] for clip in clips]


if __name__ == "__main__":
    main()
