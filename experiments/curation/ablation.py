"""Compares models that learn from all clips, a random 70 % of them, and the 70 % that curation keeps.

``python -m experiments.curation.ablation FOLDER --seeds 81000 82000 83000`` renders a corpus for each seed, 30 % of it
with sounds of another theme, has the bundled ears write what is heard in each clip, and trains the bundled eyes three
times with a round's trainer: on the videos' texts, with what is heard as a hint. The texts tell each scene as it was
filmed, so that of a clip with a foreign sound they contradict what is heard, and a model that learns from them
learns that sound says little. All three have as many steps. A JSON line a run: slot F1 of sounds and of what is seen,
on clips of the test split whose sound belongs to them. What is in the file already is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

import trainers
from annotators import Request, build
from annotators.tasks import Asking
from experiments.noise_grid.playground import CachedEyes, Forget
from flywheel.core.config import template
from flywheel.core.types import Clip, Example
from flywheel.curation.describe import describe
from flywheel.curation.evidence import measure_all
from flywheel.ingest import ingest
from flywheel.playground import av
from flywheel.playground.av.corpus import write_av_playground
from flywheel.rounds import RoundContext
from flywheel.rounds.stages import curate
from flywheel.rounds.stages._training import training_set
from flywheel.store import Workspace

_SHARE, _KEPT = 0.3, 0.7
#: No transcript is shown: it would be the answer. Without anchors no loss could tell noise: maximum likelihood.
_SETTINGS = (
    "tracking.enabled=false",
    "corpus.test_share=0.25",
    "corpus.anchor_share=0",
    # As the eyes were trained: a quarter of the work.
    "corpus.max_side=128",
    "annotate.hints=[]",
    "annotate.max_new_tokens=96",
    "curate.policy=quantile",
    f"curate.value={_KEPT}",
    "pretrain.batch_size=8",
    "loss.name=mle",
)
_ROLES = tuple(f"models.{role}={{folder: bundled-{role}}}" for role in ("eyes", "ears", "judge"))
#: Arm -> settings of curation; None leaves it out.
ARMS: dict[str, tuple[str, ...] | None] = {"whole": None, "random": ("curate.control=true",), "curated": ()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[81_000, 82_000, 83_000])
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ablation.jsonl")
    options = parser.parse_args()
    # What is compared first of all: a run that is stopped has that.
    for arms in (("base", "random", "curated"), ("whole",)):
        for seed in options.seeds:
            _seed(options.folder / str(seed), seed, arms, options)
    _summary(_rows(options.out), options)


def _seed(folder: Path, seed: int, arms: Sequence[str], options: argparse.Namespace) -> None:
    """Runs of a seed, those whose row is there left out."""
    asked = {"seed": seed, "clips": options.clips, "steps": options.steps}
    done = [row["arm"] for row in _rows(options.out) if asked.items() <= row.items()]
    waiting = [arm for arm in arms if arm not in done]
    if not waiting:
        return
    write_av_playground(folder, seed=seed, num_clips=options.clips, noise_rate=0.0, faults={"mismatch": _SHARE})
    _prepared(folder)
    truth = pl.read_parquet(folder / "oracle.parquet")
    settings = [*_SETTINGS, f"pretrain.num_steps={options.steps}", f"pretrain.seed={seed}", f"curate.seed={seed}"]
    seen: dict[str, Any] = {}
    for arm in waiting:
        began = time.monotonic()
        row = _run(folder, arm, settings, truth, seen)
        line = json.dumps({**asked, "arm": arm, **row, "seconds": round(time.monotonic() - began)})
        with options.out.open("a") as file:
            file.write(line + "\n")


def _prepared(folder: Path) -> None:
    """A workspace with all that the arms share: evidence, and what is heard in each clip."""
    root = folder / "w"
    if not (root / "flywheel.yaml").exists():
        raw = yaml.safe_load(template("playground-av"))
        raw["models"], raw["curate"]["judge"] = {"main": raw["models"]["main"]}, "never"
        Workspace.create(root, yaml.safe_dump(raw))
    # The ears are asked, eyes and judge are not: only that they could be makes the ears' prompt known.
    workspace = Workspace.open(root, [*_SETTINGS, *_ROLES, "curate.judge=all"])
    with workspace.lock():
        if workspace.clips().is_empty():
            ingest(workspace, [str(folder / "corpus")])
        context = RoundContext(workspace)
        measure_all(workspace, context.clips, 1)
        prompt = next(prompt for prompt in context.curation_prompts if prompt.kind == "heard")
        with context.writer(prompt, 1) as writer:
            describe(
                workspace,
                context.clips.of("train", "test").by_id(),
                prompt,
                writer,
                media=context.input,
                key_parts=lambda clip: context.key_parts(clip, prompt),
                round=1,
                asking=Asking.of(context.config.annotate, prompt),
            )


def _run(folder: Path, arm: str, settings: Sequence[str], truth: pl.DataFrame, seen: dict[str, Any]) -> dict[str, Any]:
    """Train one arm, and measure its texts; the base's are measured as it is. ``seen``: what the eyes make of clips."""
    workspace = Workspace.open(folder / "w", [*settings, *(ARMS.get(arm) or ())])
    with workspace.lock():
        context = RoundContext(workspace)
        vlm = context.load(context.base)
        eyes = CachedEyes(vlm.model.model.visual)
        vars(eyes).update(seen)
        row: dict[str, Any] = {}
        if arm != "base":
            clips = _learned(context, arm)
            row = _counted(clips, truth)
            _train(context, vlm, clips, folder / f"model-{arm}")
        engine = build("transformers", vlm=vlm, builder=context.builder(vlm.processor))
        requests = [
            Request(key=Path(clip.uri).name, clip=context.input(clip), prompt=context.prompt.render(evidence))
            for clip, evidence in context.with_evidence(context.clips.of("test").by_id(), 1)
        ]
        sampling = Asking.of(context.config.annotate, context.prompt).sampling
        texts = {result.key: result.text for result in engine.generate(requests, sampling)}
        seen.update({name: value for name, value in vars(eyes).items() if name != "_forward"})
    return {**row, **_measured(texts, truth, "base" if arm == "base" else "corpus")}


def _learned(context: RoundContext, arm: str) -> list[Clip]:
    """The train clips that an arm learns from."""
    train = list(context.clips.of("train").by_id())
    if ARMS[arm] is None:
        return train
    run = curate.run(context, 1).run
    kept = set(context.workspace.decisions(run).filter("kept")["clip_id"])
    return [clip for clip in train if clip.id in kept]


def _counted(clips: Sequence[Clip], truth: pl.DataFrame) -> dict[str, Any]:
    files = [Path(clip.uri).name for clip in clips]
    foreign = truth.filter(pl.col("file").is_in(files) & ~pl.col("matched")).height
    return {"train": len(clips), "hours": round(sum(clip.duration_s for clip in clips) / 3600, 3), "foreign": foreign}


def _train(context: RoundContext, vlm: Any, clips: Sequence[Clip], out: Path) -> None:
    """Train the model in place by maximum likelihood on the texts that came with the videos."""
    examples = [
        Example(clip_id=clip.id, text=clip.transcript, prompt_texts=evidence.model_dump(), group="transcripts")
        for clip, evidence in context.with_evidence(clips, 1)
    ]
    for leftover in (out, out.with_name(f"{out.name}.work")):
        shutil.rmtree(leftover, ignore_errors=True)
    trainers.pretrain(
        vlm,
        context.builder(vlm.processor),
        context.config.pretrain,
        context.config.loss,
        training_set(context, examples),
        out,
        precision=context.config.main.precision,
        sink=Forget(),
        held_out=None,
        human=None,
    )


def _measured(texts: Mapping[str, str], truth: pl.DataFrame, dialect: str) -> dict[str, Any]:
    """Slot F1 of the texts: of sounds and things, where the sound belongs; and of foreign sounds."""
    rows = truth.filter(pl.col("file").is_in(list(texts))).sort("file")
    matched, foreign = (rows.filter(pl.col("matched") == side) for side in (True, False))
    sounds = list(_f1(texts, matched, "heard", dialect))
    return {
        "test": matched.height,
        "f1_sounds": round(float(np.mean(sounds)), 4),
        "f1_things": round(float(np.mean(list(_f1(texts, matched, "seen", dialect)))), 4),
        "f1_foreign_sounds": round(float(np.mean(list(_f1(texts, foreign, "heard", dialect)))), 4),
        "scores": [round(value, 3) for value in sounds],
    }


def _f1(texts: Mapping[str, str], rows: pl.DataFrame, what: str, dialect: str) -> Iterator[float]:
    read = av.heard_facts if what == "heard" else av.seen_facts
    for file, true in rows.select("file", f"{what}_facts").iter_rows():
        yield av.facts_f1(read(texts[file], dialect), frozenset(true))


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def _summary(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Means over the seeds, and the curated arm's lead with its standard error over them."""
    asked = {"clips": options.clips, "steps": options.steps}
    of = {
        (row["arm"], row["seed"]): row["f1_sounds"]
        for row in rows
        if asked.items() <= row.items() and row["seed"] in options.seeds
    }
    found = {arm: np.array([of[arm, seed] for seed in options.seeds]) for arm in ("base", *ARMS)}
    for arm, values in found.items():
        print(json.dumps({"arm": arm, "f1_sounds": [*values], "mean": round(float(values.mean()), 4)}))
    for other in ("random", "whole"):
        lead = found["curated"] - found[other]
        error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else float("nan")
        print(json.dumps({"curated over": other, "lead": round(float(lead.mean()), 4), "se": round(error, 4)}))


if __name__ == "__main__":
    main()
