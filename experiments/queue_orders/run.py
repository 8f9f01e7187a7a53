"""What each order of the queue gains per correction, against random, on the playground.

    python experiments/queue_orders/run.py --out /tmp/orders --seeds 81 82 83

For each seed a wheel turns one whole round (800 clips, 40 corrections, as the demo's), then its second round's texts
are written and its second model is pretrained. From there each order names the 24 train clips whose texts people see
next: all by that order, or ``mixed``, the queue as it is configured by default (half random). All are corrected truly.
Two things are measured:

- ``repaired``: slot F1 that these corrections put right in the texts themselves, per correction (no training in it);
- ``gain``: slot F1 on the test split of the pretrained model with LoRA on the first round's corrections and these,
  minus that with LoRA on the first round's alone. One pretraining per seed, which knew none of the new corrections,
  lies under all of them.

Random is drawn three times, so that its own spread is seen. Prints one JSON line per seed and order.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import trainers
from annotators import Request, Sampling, build
from flywheel.core.config import template
from flywheel.core.types import CAPTION, HUMAN, Clip, Example
from flywheel.demo import Oracle, _refine
from flywheel.ingest import ingest
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import baseline
from flywheel.rounds.progress import current_round
from flywheel.rounds.stages._training import training_set
from flywheel.rounds.stages.annotate import embed
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from human_refine.order import in_order
from human_refine.signals import SIGNALS, clip_keys, signal
from human_refine.texts import TextIndex

COUNT = 24


class Forget:
    def log(self, values: Any, step: int) -> None:
        del values, step


def prepared(folder: Path, seed: int) -> RoundContext:
    if not (folder / "flywheel.yaml").exists():
        Workspace.create(folder, template())
        write_playground(folder, seed=seed, num_clips=800, noise_rate=0.5)
    w = Workspace.open(folder, ["tracking.enabled=false", "evaluate.diversity_tokens=200"])
    context = RoundContext(w)
    with w.lock():
        if w.clips().is_empty():
            ingest(w, [str(folder / "corpus")])
        baseline(context)
        oracle = Oracle(folder / "oracle.parquet")
        if current_round(context.workspace) == 1:
            run_round(context, until="annotate")
            _refine(context, oracle, 1, seed)
            run_round(context)
        run_round(context, until="pretrain")
        embed(context)
    return context


def picks(context: RoundContext, seed: int) -> dict[str, list[str]]:
    """Order -> ids of the annotations that it shows first."""
    w = context.workspace
    names = SIGNALS.names()
    index = TextIndex(workspace=w, signals=names).refreshed()
    said = clip_keys(w.corrections()["clip_id"].unique())
    batch = index.batch(np.flatnonzero(~np.isin(index.clips(), said)).astype(np.int32))
    train = {c.id for c in context.split("train")}
    clip_of = dict(w.annotations(round=2, kind=CAPTION).select("id", "clip_id").iter_rows())
    splits = ["train" if clip_of[i] in train else None for i in batch.rows["id"]]
    found: dict[str, list[str]] = {}
    ids = sorted(i for i, split in zip(batch.rows["id"], splits, strict=True) if split is not None)
    for draw in range(3):
        found[f"random {draw}"] = [ids[i] for i in np.random.default_rng([seed, draw]).permutation(len(ids))[:COUNT]]
    values = {name: signal(name)(batch) for name in names}
    for name in names:
        found[name] = [i for i, _ in in_order(batch.rows["id"], splits, 0.0, {name: values[name]})][:COUNT]
    settings = w.config.review
    mixed = in_order(batch.rows["id"], splits, settings.random_share, {n: values[n] for n in settings.order})
    found["mixed"] = [i for i, _ in mixed][:COUNT]
    return found


def scores_with(context: RoundContext, oracle: Oracle, folder: Path, new: list[str]) -> list[float]:
    """Slot F1 of each test clip after LoRA on the first round's corrections and on the truth of these texts' clips."""
    note = folder / "scores.json"
    if note.exists():
        return list(json.loads(note.read_text()))
    texts = CurrentTexts(context.workspace)
    clip_of = dict(context.workspace.annotations(round=2, kind=CAPTION).select("id", "clip_id").iter_rows())
    true = {c: h.text for c, h in texts.human.items() if h.text is not None and texts.split(c) == "train"}
    true |= {clip_of[i]: oracle.text(context.clips[clip_of[i]].uri) for i in new}
    tune = [
        Example(clip_id=c, text=text, prompt_texts=context.evidence(context.clips[c]).model_dump(), group=HUMAN)
        for c, text in sorted(true.items())
    ]
    context.unload()
    model = context.workspace.model_folder(2) / "model"
    vlm = context.load(model)
    trainers.finetune(
        vlm,
        context.builder(vlm.processor),
        context.config.finetune,
        training_set(context, tune),
        folder / "adapter",
        precision=context.config.main.precision,
        sink=Forget(),
    )
    context.unload()
    vlm = context.load(model, folder / "adapter")
    engine = build(
        "transformers", vlm=vlm, builder=context.builder(vlm.processor), batch_size=context.config.annotate.batch_size
    )
    test = sorted(context.split("test"), key=lambda c: c.id)
    said = written(context, engine, texts, test)
    context.unload()
    result = [oracle.f1(c.uri, said[c.id]) for c in test]
    note.write_text(json.dumps(result))
    return result


def written(context: RoundContext, engine: Any, texts: CurrentTexts, clips: list[Clip]) -> dict[str, str]:
    requests = [
        Request(key=c.id, clip=context.input(c.id), prompt=context.prompt.render(context.evidence(c))) for c in clips
    ]
    sampling = Sampling(max_new_tokens=context.config.annotate.max_new_tokens)
    return {result.key: result.text for result in engine.generate(requests, sampling)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[81, 82, 83])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        folder = arguments.out / str(seed)
        context = prepared(folder, seed)
        oracle = Oracle(folder / "oracle.parquet")
        rows = {r["id"]: r for r in context.workspace.annotations(round=2, kind=CAPTION).iter_rows(named=True)}
        chosen = picks(context, seed)
        before = scores_with(context, oracle, folder / "orders" / "none", [])
        for name, ids in chosen.items():
            after = scores_with(context, oracle, folder / "orders" / name.replace(" ", "-"), ids)
            wrong = [1 - oracle.f1(context.clips[rows[i]["clip_id"]].uri, rows[i]["text"]) for i in ids]
            line = {
                "seed": seed,
                "order": name,
                "corrections": len(ids),
                "repaired": asdict(mean_estimate(wrong)),
                "gain": asdict(paired_difference(after, before)),
                "repaired_each": wrong,
                "scores": after,
                "before": before,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
