"""Who stands in for people: sees the truth as a person who watches the clip would, and corrects a few texts a round."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl

from flywheel.core.types import CAPTION, LEARN
from flywheel.demo.oracle import Oracle
from flywheel.demo.sizes import Size
from flywheel.rounds import RoundContext
from human_refine import import_corrections


def refine(context: RoundContext, oracle: Oracle, size: Size, round: int, seed: int) -> None:
    """A refiner's evening: a small, fixed number of texts, watched and put right, handed in as a file."""
    workspace = context.workspace
    file = workspace.root / "corrections" / f"round-{round:03d}.jsonl"
    if not file.exists():
        captions = workspace.annotations(round=round, kind=CAPTION, purpose=LEARN)
        clips = workspace.clips()
        rows = captions.join(clips.select(pl.col("id").alias("clip_id"), "uri", "split"), on="clip_id")
        rows = rows.join(workspace.corrections(), on="clip_id", how="anti").sort("id")
        count = int(size.correction_share * clips.height)
        lines = []
        for row in _chosen(rows, count, size.anchor_part, np.random.default_rng([seed, round])):
            true = oracle.text(row["uri"])
            verdict = "accept" if row["text"] == true else "edit"
            lines.append(
                json.dumps({"annotation_id": row["id"], "verdict": verdict, "text": true, "refiner": "simulated"})
            )
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(file)
    import_corrections(workspace, file)


def _chosen(rows: pl.DataFrame, count: int, anchor_part: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Anchors at random; of the train clips half at random and half those whose text the model doubted most."""
    anchors = rows.filter(pl.col("split") == "anchor").to_dicts()
    train = rows.filter(pl.col("split") == "train").to_dicts()
    num_anchors = min(len(anchors), round(anchor_part * count))
    num_train = min(len(train), count - num_anchors)
    picked = [anchors[i] for i in rng.permutation(len(anchors))[:num_anchors]]
    doubted = sorted(train, key=lambda r: (r["mean_logprob"], r["id"]))[: num_train // 2]
    rest = [r for r in train if r["id"] not in {d["id"] for d in doubted}]
    return picked + doubted + [rest[i] for i in rng.permutation(len(rest))[: num_train - len(doubted)]]
