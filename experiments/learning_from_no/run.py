"""Measures adapters that learned from corrections, choices and rejects of equally many seconds.

    python -m experiments.learning_from_no.run --folder F --seed 1 [--arms corrections both pairs] >> results.jsonl

The bundled base learns noisy transcripts of one corpus first (kept in the folder, the same for all seeds). Then it
writes two texts of each of a seed's clips, people spend a budget of seconds on them, an adapter learns what they said
with `trainers.finetune`, and writes of test clips. The oracle counts facts that are right among those told (precision)
and told among those that are true (recall).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import trainers
from annotators import Request, Sampling, prompt_file
from annotators.engines.transformers import transformers
from flywheel.core.config import parse_config
from flywheel.core.types import HUMAN, Example
from flywheel.metrics import mean_estimate
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import noise, scenes
from flywheel.playground.reading import fact_scores
from flywheel.playground.tiny import bundled_model

#: What a correction, a blind choice and a look that may end in a reject take of a person's time; assumed.
SECONDS = {"correction": 40.0, "choice": 12.0, "look": 8.0}
#: Of each arm how often people do what: 1,200 s each.
ARMS: Mapping[str, Mapping[str, int]] = {
    "corrections": {"correction": 30},
    "corrections both": {"correction": 30},
    "both": {"correction": 15, "choice": 30, "look": 30},
    "pairs": {"choice": 60, "look": 60},
}
METHODS = {"corrections": "sft", "corrections both": "sft+dpo", "both": "sft+dpo", "pairs": "dpo"}
#: A text with fewer of its facts right is rejected; who chooses is wrong so often.
_REJECTED_BELOW, _WRONG = 0.6, 0.05
_PROMPT = load_prompt(prompt_file("caption", Path()))
_TIMES = tuple(0.2 + 0.4 * i for i in range(8))


class _Nothing:
    def log(self, values: Mapping[str, float], step: int) -> None: ...


@dataclass(kw_only=True)
class Lessons:
    """Texts to learn, and pairs: a better text and behind it a worse one."""

    texts: list[Example] = field(default_factory=list)
    pairs: list[Example] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def pair(self, kind: str, clip: str, better: str, worse: str) -> None:
        if better != worse:
            self.pairs += [example(clip, better), example(clip, worse)]
            self.counts[kind] = self.counts.get(kind, 0) + 1


def scene(clip: str) -> scenes.Scene:
    return scenes.sample_scene(int(clip))


def picture(clip: str) -> ClipInput:
    return ClipInput(key=clip, frames_THWC=scenes.draw(scene(clip), _TIMES), times_s=_TIMES, duration_s=3.2, fps=10.0)


def transcript(clip: str) -> str:
    rng = np.random.default_rng([int(clip), 5])
    kind = str(rng.choice(noise.KINDS)) if rng.random() < 0.5 else "clean"
    return noise.noisy_transcript(scene(clip), scenes.sample_scene(int(clip) + 7919), kind, rng)


def example(clip: str, text: str) -> Example:
    return Example(clip_id=clip, text=text, prompt_texts={"transcript": transcript(clip)}, group=HUMAN)


def training_set(rows: Sequence[Example]) -> trainers.TrainingSet:
    return trainers.TrainingSet(examples=rows, input=picture, prompt=_PROMPT, dropout={"transcript": 0.5}, seed=0)


def start(folder: Path, steps: int) -> Path:
    """The model that the arms begin with."""
    out = folder / f"model-{steps}-steps"
    if not out.is_dir():
        plan = {"num_steps": steps, "batch_size": 12, "learning_rate": 2e-3}
        config = parse_config({"pretrain": plan, "loss": {"name": "mle"}})
        clips = [str(900_000 + n) for n in range(400)]
        rows = [Example(clip_id=c, text=transcript(c), prompt_texts={"transcript": None}, group="t") for c in clips]
        vlm = load_vlm(bundled_model())
        builder = InputBuilder(vlm.processor)
        settings, loss, data = config.pretrain, config.loss, training_set(rows)
        trainers.pretrain(
            vlm, builder, settings, loss, data, out, precision="fp32", sink=_Nothing(), held_out=None, human=None
        )
    return out


def written(model: Path, adapter: Path | None, clips: Sequence[str], temperature: float, seed: int) -> dict[str, str]:
    vlm = load_vlm(model, adapter)
    engine = transformers(vlm, InputBuilder(vlm.processor), batch_size=32)
    requests = [
        Request(key=c, clip=picture(c), prompt=_PROMPT.render(Evidence(transcript=transcript(c)))) for c in clips
    ]
    sampling = Sampling(max_new_tokens=48, temperature=temperature, seed=seed)
    return {result.key: result.text for result in engine.generate(requests, sampling)}


def scores(clip: str, text: str) -> tuple[float, float, float]:
    return fact_scores(text, scene(clip).slots())


def people(arm: str, first: Mapping[str, str], second: Mapping[str, str], seed: int) -> Lessons:
    """Returns the lessons of an arm's seconds; each clip is looked at once, all arms correct the same first ones."""
    rng, lessons, order = np.random.default_rng([seed, 3]), Lessons(), iter(first)
    for kind, count in ARMS[arm].items():
        for _ in range(count):
            clip = next(order)
            one, other = scores(clip, first[clip])[2], scores(clip, second[clip])[2]
            if kind == "correction":
                lessons.texts.append(example(clip, scene(clip).caption()))
                if METHODS[arm] != "sft":
                    lessons.pair(kind, clip, scene(clip).caption(), first[clip])
            elif kind == "choice" and one != other:
                better, worse = (first, second) if (one > other) != (rng.random() < _WRONG) else (second, first)
                lessons.pair(kind, clip, better[clip], worse[clip])
            elif kind == "look" and one < _REJECTED_BELOW:
                lessons.pair("reject", clip, second[clip], first[clip])
    return lessons


def tuned(model: Path, lessons: Lessons, arm: str, out: Path, seed: int, steps: int) -> trainers.TrainingResult:
    import torch

    torch.manual_seed(seed)
    section = {"num_steps": steps, "batch_size": 6, "method": METHODS[arm], "seed": seed}
    plan = parse_config({"finetune": section}).finetune
    vlm = load_vlm(model)
    texts, pairs = training_set(lessons.texts), training_set(lessons.pairs) if lessons.pairs else None
    builder = InputBuilder(vlm.processor)
    return trainers.finetune(vlm, builder, plan, texts, out, precision="fp32", sink=_Nothing(), pairs=pairs)


def rows(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    began = time.process_time()
    model = start(args.folder, args.pretrain_steps)
    base = 1_000_000 + 10_000 * args.seed
    train, test = [str(base + n) for n in range(120)], [str(base + 5_000 + n) for n in range(args.test)]
    first, second = (written(model, None, train, temperature, args.seed) for temperature in (0.0, 0.8))
    of = {"start": written(model, None, test, 0.0, 0)}
    kept = np.mean([scores(c, first[c]) for c in train], axis=0), np.mean([scores(c, second[c]) for c in train], axis=0)
    for arm in ("start", *args.arms):
        row: dict[str, object] = {"seed": args.seed, "arm": arm, "test_clips": len(test)}
        row["pretrain_steps"] = args.pretrain_steps
        if arm == "start":
            row |= {"train_f1_greedy": float(kept[0][2]), "train_f1_sampled": float(kept[1][2])}
        else:
            lessons = people(arm, first, second, args.seed)
            # What decides on an adapter is in its folder's name: it is never one of other steps.
            steps = f"{args.pretrain_steps}-{args.steps}"
            out = args.folder / f"seed-{args.seed}-{arm.replace(' ', '-')}-steps-{steps}"
            result = tuned(model, lessons, arm, out, args.seed, args.steps)
            of[arm] = written(model, out, test, 0.0, 0)
            seconds = sum(SECONDS[kind] * count for kind, count in ARMS[arm].items())
            row |= {"method": METHODS[arm], "people_s": seconds, "texts": len(lessons.texts), "pairs": lessons.counts}
            row |= {"figures": dict(result.figures), "steps": args.steps}
        values = np.array([scores(c, of[arm][c]) for c in test])
        row |= dict(zip(("precision", "recall", "f1"), map(float, values.mean(axis=0)), strict=True))
        for against in ("start", "corrections"):
            if against in of and against != arm:
                other = np.array([scores(c, of[against][c]) for c in test])
                for n, name in enumerate(("precision", "recall")):
                    change = mean_estimate((values - other)[:, n].tolist())
                    row[f"{name}_over_{against}"] = [change.value, change.low, change.high]
        yield {**row, "cpu_s": round(time.process_time() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["corrections", "both", "pairs"])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--pretrain-steps", type=int, default=70)
    parser.add_argument("--test", type=int, default=80)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for row in rows(args):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
