"""What the wheel is worth: its last model against what is left when a part of it is taken away.

    python experiments/wheel_controls/run.py --out /tmp/controls --seeds 21 22 --noises 0.35 0.5 0.65

Runs the demo once per seed and noise (or takes one that is there), then on the same corpus, with the same settings and
steps:

- ``lora``: the base with LoRA on all corrections of all rounds, and nothing else;
- ``transcripts``: the base pretrained once on the transcripts, and nothing else;
- ``no people``: the wheel without corrections (so without anchors, adapters, and a noise rate to adapt to);
- ``no people, transcripts first``: the same, helped: its first round learns from the transcripts, which without anchors
  it could not have known to be better than what the base wrote;
- ``mle``: the wheel with plain maximum likelihood, corrections and all;
- ``dropout 0``: the wheel with transcripts always in the prompt.

Prints one JSON line per seed, noise and control: slot F1 on the test split and the wheel's paired advantage with its
95 % interval. Results are gathered in README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import trainers
from flywheel.core.types import MEASURE, Example
from flywheel.demo import FULL, Oracle, run_demo, test_scores
from flywheel.ingest import ingest
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.mix import training_examples
from flywheel.rounds.progress import current_round
from flywheel.rounds.stages._training import training_set
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.store import Workspace


class Forget:
    def log(self, values: Any, step: int) -> None:
        del values, step


def like(wheel: Path, folder: Path, *overrides: str) -> RoundContext:
    """A workspace with the wheel's config and corpus, and nothing of what it made."""
    if not (folder / "flywheel.yaml").exists():
        folder.mkdir(parents=True)
        shutil.copy(wheel / "flywheel.yaml", folder)
    workspace = Workspace.open(folder, ["tracking.enabled=false", *overrides])
    with workspace.lock():
        ingest(workspace, [str(wheel / "corpus")])
    return RoundContext(workspace)


def written(context: RoundContext, oracle: Oracle, round: int) -> list[float]:
    """The scores of M_round's texts on the test split, made now where they are missing."""
    with context.workspace.lock():
        context.ask(context.split("test"), by=round, round=round, purpose=MEASURE)
    return test_scores(context.workspace, oracle, round)


def lora(wheel: Path, folder: Path, oracle: Oracle) -> list[float]:
    context, source = like(wheel, folder), Workspace.open(wheel)
    out = context.workspace.model_folder(1) / "adapter"
    if not out.exists():
        texts = CurrentTexts(source)
        train = {c.id: c for c in context.split("train")}
        tune = [
            Example(clip_id=c, text=h.text, prompt_texts=context.evidence(train[c]).model_dump(), group="human")
            for c, h in sorted(texts.human.items())
            if c in train and h.text is not None
        ]
        vlm = context.load(context.base)
        trainers.finetune(
            vlm,
            context.builder(vlm.processor),
            context.config.finetune,
            training_set(context, tune),
            out,
            precision=context.config.main.precision,
            sink=Forget(),
        )
        context.unload()
    return written(context, oracle, 1)


def transcripts(wheel: Path, folder: Path, oracle: Oracle) -> list[float]:
    context, source = like(wheel, folder), Workspace.open(wheel)
    out = context.workspace.model_folder(1) / "model"
    if not out.exists():
        examples = list(
            training_examples(context, context.texts(), SourceChoice(round=0, anchor_f1={}, num_anchors=0), 1)
        )
        # The anchors' corrections of the wheel's first round, so that its loss has what the wheel's had.
        human = CurrentTexts(source)
        anchors = [
            Example(clip_id=c, text=t, prompt_texts=context.evidence(context.clips[c]).model_dump(), group="human")
            for c, t in sorted(human.anchors().items())
        ]
        vlm = context.load(context.base)
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
            human=training_set(context, anchors),
        )
        context.unload()
    return written(context, oracle, 1)


def no_people(wheel: Path, folder: Path, oracle: Oracle, *, transcripts_first: bool = False) -> list[float]:
    for round in range(1, FULL.num_rounds + 1):
        # Without people there are no anchors: the gate could not tell, and every round is let through.
        context = like(wheel, folder, "gate.untested=promote")
        if current_round(context.workspace) != round:
            continue
        with context.workspace.lock():
            if round == 1 and transcripts_first:
                # Without its own captions of round 1 the round learns from what came with the videos.
                context.workspace.set_stage(1, "annotate", "done", {"by": 0, "annotations": 0, "rejected": 0})
            run_round(context)
    return written(like(wheel, folder), oracle, FULL.num_rounds)


def other_wheel(
    wheel: Path, folder: Path, oracle: Oracle, settings: dict[str, Any], seed: int, noise: float
) -> list[float]:
    if not (folder / "corpus").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(wheel / "corpus", folder / "corpus")
        shutil.copy(wheel / "oracle.parquet", folder)
    settings = {**settings, "tracking": {"enabled": False}}
    run_demo(folder, seed=seed, noise=noise, size=replace(FULL, ceiling=False), settings=settings)
    return test_scores(Workspace.open(folder), oracle, FULL.num_rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21])
    parser.add_argument("--noises", type=float, nargs="+", default=[0.35, 0.5, 0.65])
    parser.add_argument(
        "--controls",
        nargs="+",
        default=["lora", "transcripts", "no people", "no people, transcripts first", "mle", "dropout 0"],
    )
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for noise in arguments.noises:
            wheel = arguments.out / f"wheel-{seed}-{noise}"
            run_demo(wheel, seed=seed, noise=noise)
            oracle = Oracle(wheel / "oracle.parquet")
            own = test_scores(Workspace.open(wheel), oracle, FULL.num_rounds)
            print(
                json.dumps(
                    {"seed": seed, "noise": noise, "control": "the wheel", "slot_f1": asdict(mean_estimate(own))}
                ),
                flush=True,
            )
            for name in arguments.controls:
                folder = arguments.out / f"{name.replace(' ', '-').replace(',', '')}-{seed}-{noise}"
                match name:
                    case "lora":
                        scores = lora(wheel, folder, oracle)
                    case "transcripts":
                        scores = transcripts(wheel, folder, oracle)
                    case "no people":
                        scores = no_people(wheel, folder, oracle)
                    case "no people, transcripts first":
                        scores = no_people(wheel, folder, oracle, transcripts_first=True)
                    case "mle":
                        scores = other_wheel(wheel, folder, oracle, {"loss": {"name": "mle"}}, seed, noise)
                    case "dropout 0":
                        scores = other_wheel(
                            wheel, folder, oracle, {"pretrain": {"transcript_dropout": 0.0}}, seed, noise
                        )
                    case _:
                        raise SystemExit(f"unknown control {name}")
                line = {
                    "seed": seed,
                    "noise": noise,
                    "control": name,
                    "slot_f1": asdict(mean_estimate(scores)),
                    "wheel_ahead": asdict(paired_difference(own, scores)),
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
