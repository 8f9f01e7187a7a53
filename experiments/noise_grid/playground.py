"""The playground bed: the bundled VLM learns captions with planted noise; slot F1 of its captions of other clips.

    python experiments/noise_grid/playground.py --out experiments/noise_grid/results/playground.jsonl [--part 0/2]

One JSON line per cell, loss and seed, with the scores of each test clip, so that differences are paired by clip. What
is there already is not run again. ``--part i/n`` takes every n-th run, for n processes side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotators import Request, Sampling, build, prompt_file
from flywheel.core.types import Example
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import grammar, scenes, tiny
from flywheel.sound.events import describe, sound_events
from noise_control import losses
from trainers import TrainingPlan, TrainingSet, train

#: Of the captions with noise every loss trains on all but HELD_OUT, as `flywheel run` would hold out of so many.
TRAIN, HELD_OUT, ANCHORS, TEST = 400, 60, 60, 100
CELLS = (
    ("clean", 0.0),
    ("other clip", 0.3),
    ("other clip", 0.5),
    ("substitution", 0.3),
    ("chatter", 0.3),
    ("fixed phrase", 0.5),
    ("mixed", 0.5),
)
LOSSES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mle", {}),
    ("adatailr", {}),
    ("tailr", {"gamma": 0.001}),
    ("tailr", {"gamma": 0.01}),
    ("tailr", {"gamma": 0.1}),
    ("loss_truncation", {"share": 0.3}),
)
STEPS, BATCH, RATE = 150, 16, 1e-3


def noisy(captions: list[str], kind: str, rate: float, rng: np.random.Generator) -> list[str]:
    """Captions with noise: whole captions at ``rate``, or single words for ``substitution``.

    ``mixed`` draws a kind each.
    """
    words = sorted({w for text in captions for w in text.strip(".").split()})
    other = [captions[i] for i in rng.permutation(len(captions))]
    out = []
    for text, swapped in zip(captions, other, strict=True):
        which = str(rng.choice(["other clip", "substitution", "chatter", "fixed phrase"])) if kind == "mixed" else kind
        hit = rng.random() < rate
        match which:
            case "substitution":
                hits = rng.random(len(text.split())) < rate
                text = " ".join(str(rng.choice(words)) if h else w for w, h in zip(text.split(), hits, strict=True))
            case "other clip" if hit:
                text = swapped
            case "chatter" if hit:
                text = str(rng.choice(grammar.CHATTER))
            case "fixed phrase" if hit:
                text = grammar.CHATTER[0]
        out.append(text)
    return out


class Corpus:
    """Scenes of a seed, drawn once: train, anchor and test clips."""

    def __init__(self, seed: int) -> None:
        times = [(i + 0.5) * scenes.DURATION_S / tiny.FRAMES for i in range(tiny.FRAMES)]
        self.scenes = [scenes.sample_scene(seed * 100_000 + i) for i in range(TRAIN + ANCHORS + TEST)]
        self.pictures = {
            str(i): ClipInput(
                key=str(i),
                frames_THWC=scenes.draw(s, times),
                times_s=tuple(times),
                duration_s=scenes.DURATION_S,
                fps=10.0,
            )
            for i, s in enumerate(self.scenes)
        }
        self.sounds = [describe(sound_events(scenes.sound(s), scenes.SAMPLE_RATE)) for s in self.scenes]

    def examples(self, start: int, texts: list[str], group: str) -> list[Example]:
        return [
            Example(clip_id=str(start + i), text=text, prompt_texts={"sounds": self.sounds[start + i]}, group=group)
            for i, text in enumerate(texts)
        ]


class CachedEyes:
    """The frozen vision tower's outputs, kept by clip: it sees each clip some ten times a run, and always the same."""

    def __init__(self, visual: Any) -> None:
        self._forward, self._kept = visual.forward, {}
        visual.forward = self

    def __call__(self, pixels: torch.Tensor, grid_thw: torch.Tensor, **arguments: Any) -> Any:
        parts = pixels.split(grid_thw.prod(1).tolist())
        keys = [hashlib.blake2b(part.numpy().tobytes()).digest() for part in parts]
        new = {key: index for index, key in enumerate(keys) if key not in self._kept}
        if new:
            order = list(new.values())
            with torch.no_grad():
                out = self._forward(torch.cat([parts[i] for i in order]), grid_thw=grid_thw[order], **arguments)
            tables = (out.last_hidden_state, out.pooler_output, *out.deepstack_features)
            for key, rows in zip(new, zip(*(table.chunk(len(order)) for table in tables), strict=True), strict=True):
                self._kept[key] = [row.clone() for row in rows]
            self._type = type(out)
        tables = [torch.cat(rows) for rows in zip(*(self._kept[key] for key in keys), strict=True)]
        return self._type(last_hidden_state=tables[0], pooler_output=tables[1], deepstack_features=tables[2:])


class Forget:
    def log(self, values: Any, step: int) -> None:
        del values, step


@lru_cache(1)
def corpus(seed: int) -> Corpus:
    return Corpus(seed)


def run(kind: str, rate: float, loss: str, arguments: dict[str, Any], seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    bed = corpus(seed)
    clean = [s.caption() for s in bed.scenes]
    cell = sum(map(ord, kind)) + round(100 * rate)
    texts = noisy(clean[:TRAIN], kind, rate, np.random.default_rng([seed, cell])) if rate else clean[:TRAIN]
    vlm = load_vlm(tiny.bundled_model())
    builder = InputBuilder(vlm.processor)
    prompt = load_prompt(prompt_file("caption", Path.cwd()))

    def training_set(start: int, said: list[str], group: str) -> TrainingSet:
        return TrainingSet(
            examples=bed.examples(start, said, group),
            input=bed.pictures.__getitem__,
            prompt=prompt,
            dropout={},
            seed=seed,
        )

    vision = [p for name, p in vlm.model.named_parameters() if "visual." in name]
    for parameter in vision:
        parameter.requires_grad_(False)
    CachedEyes(vlm.model.model.visual)
    work = Path(tempfile.mkdtemp())
    try:
        result = train(
            vlm,
            builder,
            training_set(HELD_OUT, texts[HELD_OUT:], "planted"),
            losses.build(loss, **arguments),
            TrainingPlan(
                num_steps=STEPS,
                batch_size=BATCH,
                learning_rate=RATE,
                weight_decay=0.01,
                save_every=10_000,
                human_every=15,
                seed=seed,
            ),
            work,
            sink=Forget(),
            label=f"{kind} {rate} {loss}",
            held_out=training_set(0, texts[:HELD_OUT], "planted"),
            human=training_set(TRAIN, clean[TRAIN : TRAIN + ANCHORS], "human"),
        )
    finally:
        shutil.rmtree(work)
    engine = build("transformers", vlm=vlm, builder=builder)
    test = range(TRAIN + ANCHORS, TRAIN + ANCHORS + TEST)
    requests = [
        Request(key=str(i), clip=bed.pictures[str(i)], prompt=prompt.render(Evidence(sounds=bed.sounds[i])))
        for i in test
    ]
    scores = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        said = engine.generate(requests, Sampling(max_new_tokens=48, temperature=temperature, seed=seed))
        scores[name] = [round(grammar.slot_f1(r.text, bed.scenes[int(r.key)].slots()), 4) for r in said]
    planted = float(np.mean([a != b for a, b in zip(texts, clean[:TRAIN], strict=True)]))
    return {
        "kind": kind,
        "rate": rate,
        "loss": loss,
        "arguments": arguments,
        "seed": seed,
        "planted_texts": planted,
        "mean": {name: round(float(np.mean(values)), 4) for name, values in scores.items()},
        "figures": {k: round(v, 4) for k, v in result.figures.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "scores": scores,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", nargs="*", help="only these, as KIND:RATE")
    parser.add_argument("--losses", nargs="*", help="only these names")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    runs = [
        (kind, rate, loss, arguments, seed)
        for seed in options.seeds
        for kind, rate in CELLS
        for loss, arguments in LOSSES
        if (not options.cells or f"{kind}:{rate}" in options.cells) and (not options.losses or loss in options.losses)
    ]
    index, count = map(int, options.part.split("/"))
    for kind, rate, loss, arguments, seed in runs[index::count]:
        done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
        key = {"kind": kind, "rate": rate, "loss": loss, "arguments": arguments, "seed": seed}
        if any(all(row[name] == value for name, value in key.items()) for row in done):
            continue
        line = json.dumps(run(kind, rate, loss, arguments, seed))
        with options.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
