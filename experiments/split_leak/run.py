"""How much better a model looks on clips whose neighbours it learned from than on clips of videos it never saw.

    python experiments/split_leak/run.py --out /tmp/split_leak --seeds 301 302 --noise 0 0.5

Each playground video is cut into three overlapping spans. A fifth of the videos is never learned from ("fresh"); of
the others a fifth of the clips is taken out of training one by one, as a split by the clip does ("neighbours"). One
round is trained: a person puts the anchors right, so that it learns from the transcripts. Base and model are measured
on both by the oracle's slot F1. The leak is the gain on neighbours less the gain on fresh videos; its interval is a
bootstrap over videos.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.config import template
from flywheel.core.types import MEASURE, Correction, content_id
from flywheel.demo import Oracle
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.store import Workspace

STARTS_S, LENGTH_S = (0.0, 0.4, 0.8), 2.4
SETTINGS = (
    "tracking.enabled=false",
    "corpus.test_share=0.2",
    "corpus.anchor_share=0.1",
    "finetune.num_steps=0",
    "gate.min_anchors=2",
    "evaluate.agreement_pairs=0",
    "evaluate.resamples=200",
)


def cut_corpus(out: Path, seed: int, noise: float, num_videos: int) -> Path:
    """A playground and its manifest of overlapping spans, each with its video's transcript; returns the manifest."""
    write_playground(out, seed=seed, num_clips=num_videos, noise_rate=noise)
    rows = []
    for video in sorted((out / "corpus").glob("*.mp4")):
        beside = video.with_suffix(".txt")
        text = beside.read_text().strip() if beside.exists() else ""
        rows += [{"video": str(video), "start_s": s, "end_s": s + LENGTH_S, "transcript": text} for s in STARTS_S]
    manifest = out / "spans.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def take_out_neighbours(workspace: Workspace) -> set[str]:
    """Put a fifth of the train clips into the test split, one by one; returns their ids."""
    clips = workspace.clips().to_dicts()
    chosen = {
        clip["id"]
        for clip in clips
        if clip["split"] == "train" and int(content_id("leak", clip["id"])[:12], 16) / 16**12 < 0.2
    }
    workspace.records.remove({"clips": pl.lit(True)})
    rows = [{**clip, "split": "test" if clip["id"] in chosen else clip["split"]} for clip in clips]
    workspace.records.append("clips", rows)
    return chosen


def correct_anchors(context: RoundContext, oracle: Oracle) -> None:
    """A person's right text of each anchor: with these the round finds which texts are best to learn from."""
    captions = context.texts().captions(1)
    corrections = [
        Correction(
            id=content_id("leak", clip.id),
            annotation_id=captions[clip.id].id,
            clip_id=clip.id,
            verdict="edit",
            text=oracle.text(clip.uri),
            refiner="simulated",
            at=datetime.now(UTC),
        )
        for clip in context.split("anchor")
    ]
    context.workspace.add_corrections(corrections)


def scores(workspace: Workspace, oracle: Oracle, round: int) -> dict[str, float]:
    """Slot F1 of M_round's text of each test clip, by clip id."""
    said = dict(workspace.texts(round, MEASURE, "clip_id", "text").iter_rows())
    clips = workspace.clips("test").select("id", "uri")
    return {clip_id: oracle.f1(uri, said.get(clip_id, "")) for clip_id, uri in clips.iter_rows()}


def by_video(gains: dict[str, float], video_of: dict[str, str]) -> NDArray[np.float64]:
    """Sum and number of the gains of each video, (videos, 2)."""
    sums: dict[str, list[float]] = {}
    for clip_id, gain in gains.items():
        of = sums.setdefault(video_of[clip_id], [0.0, 0.0])
        of[0], of[1] = of[0] + gain, of[1] + 1
    return np.array(list(sums.values()))


def interval(neighbours: NDArray[np.float64], fresh: NDArray[np.float64], resamples: int = 4000) -> list[float]:
    """95 % interval of the difference of mean gains, videos drawn anew."""
    rng = np.random.default_rng(0)
    drawn = []
    for part in (neighbours, fresh):
        sums = part[rng.integers(0, len(part), (resamples, len(part)))].sum(1)
        drawn.append(sums[:, 0] / sums[:, 1])
    return [float(v) for v in np.quantile(drawn[0] - drawn[1], [0.025, 0.975])]


def measured(out: Path, seed: int, noise: float, num_videos: int, steps: int) -> dict[str, Any]:
    """One row of the results."""
    started = time.process_time()
    manifest = cut_corpus(out, seed, noise, num_videos)
    Workspace.create(out / "w", template())
    workspace = Workspace.open(out / "w", [*SETTINGS, f"pretrain.num_steps={steps}"])
    with workspace.lock():
        ingest(workspace, [str(manifest)])
        chosen = take_out_neighbours(workspace)
        context, oracle = RoundContext(workspace), Oracle(out / "oracle.parquet")
        run_round(context, until="annotate")
        correct_anchors(context, oracle)
        run_round(context)
    learned_from = workspace.stage(1, "pretrain")[1]["learned_from_round"]
    video_of: dict[str, str] = dict(workspace.clips().select("id", "content_hash").iter_rows())
    base, model = (scores(workspace, oracle, round) for round in (0, 1))
    row: dict[str, Any] = {"seed": seed, "noise": noise, "videos": num_videos, "steps": steps}
    row["learned_from_round"] = learned_from
    gains = []
    for name, ids in (("neighbours", chosen), ("fresh", base.keys() - chosen)):
        row[name] = {
            "clips": len(ids),
            "base": float(np.mean([base[i] for i in ids])),
            "model": float(np.mean([model[i] for i in ids])),
        }
        gains.append(by_video({i: model[i] - base[i] for i in ids}, video_of))
    row["leak"] = row["neighbours"]["model"] - row["neighbours"]["base"] - row["fresh"]["model"] + row["fresh"]["base"]
    row["interval"] = interval(*gains)
    row["cpu_s"] = time.process_time() - started
    workspace.database.close()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[301, 302])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.5])
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    for noise in arguments.noise:
        for seed in arguments.seeds:
            folder = arguments.out / f"{seed}-{noise:g}"
            folder.mkdir(parents=True)
            row = measured(folder, seed, noise, arguments.videos, arguments.steps)
            with open(arguments.out / "results.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
