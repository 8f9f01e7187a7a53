"""Trains the tiny judge that ships in the package: from two texts to five reasons with scores, and three lists.

    python experiments/judge/train.py --out FOLDER [--minutes 14] [--pairs 20000] [--batch 16]

It reads texts of the base world's dialect alone. Half of the pairs are shown with what is heard first.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments._training import (
    DEVICE,
    FIRST_SEED,
    HELD_OUT_SEED,
    Clock,
    adamw,
    draws,
    made,
    padded,
    record,
    target_loss,
)
from experiments.judge.pairs import answer, question, timeline_of
from experiments.judge.tiny import write_tiny_judge
from flywheel.core.types import CRITERIA
from flywheel.models.inputs import InputBuilder
from flywheel.models.prompt import load_prompt
from flywheel.playground import av

PROMPT = load_prompt(Path("annotators/prompts/judge.yaml"))
#: Of so many batches the rows are sorted by length: little is padded.
_SORTED_BATCHES = 16


def tokenizer_texts() -> list[str]:
    """Questions and answers, and numbers."""
    timelines = [timeline_of(FIRST_SEED + seed) for seed in range(400)]
    lines = [text for timeline in timelines for text in (question(timeline, PROMPT), answer(timeline))]
    return [*lines, *[f"{t:.1f}" for t in np.arange(0, 10, 0.1)] * 10]


@cache
def _builder(folder: Path) -> InputBuilder:
    from transformers import AutoTokenizer

    return InputBuilder(AutoTokenizer.from_pretrained(folder))


class Rows:
    """Rows of ids with the lengths of their questions; called in processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, seed: int) -> tuple[list[int], int]:
        timeline = timeline_of(seed)
        row = _builder(self.folder).row(None, question(timeline, PROMPT, swapped=seed % 2 == 1), answer(timeline))
        return row.ids, row.num_prompt


def batches(rows: list[tuple[list[int], int]], batch: int, pad: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches without end, of rows of like length."""
    rng = np.random.default_rng(seed)
    for places in draws(len(rows), min(len(rows), batch * _SORTED_BATCHES), seed):
        ordered = sorted((rows[place] for place in places), key=lambda row: len(row[0]))
        starts = range(0, len(ordered) - batch + 1, batch)
        for start in rng.permutation(np.asarray(starts)):
            yield {name: v.to(DEVICE) for name, v in padded(ordered[start : start + batch], pad).items()}


@torch.no_grad()
def told(model: torch.nn.Module, builder: InputBuilder, number: int, batch: int) -> dict[str, Any]:
    """Shares of held-out pairs whose scores are told exactly, of greedy replies, and the AUC of matched pairs."""
    model.eval()
    right, parsed, means = Counter[str](), 0, []
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + number)
    for start in range(0, number, batch):
        timelines = [timeline_of(seed) for seed in seeds[start : start + batch]]
        asked = builder.build([None] * len(timelines), [question(timeline, PROMPT) for timeline in timelines])
        asked = {name: value.to(DEVICE) for name, value in asked.items()}
        written = model.generate(**asked, max_new_tokens=320, do_sample=False)[:, asked["input_ids"].shape[1] :]
        for timeline, ids in zip(timelines, written, strict=True):
            true = json.loads(answer(timeline))
            try:
                reply = json.loads(builder.tokenizer.decode(ids, skip_special_tokens=True))
                scores = {name: reply[name]["score"] for name in CRITERIA}
            except (ValueError, KeyError, TypeError):
                continue
            parsed += 1
            same = {name: scores[name] == true[name]["score"] for name in CRITERIA}
            right.update(name for name, value in same.items() if value)
            right["all"] += all(same.values())
            right["sources"] += all(reply.get(k) == true[k] for k in ("seen_and_heard", "heard_unseen", "seen_silent"))
            means.append((float(np.mean(list(scores.values()))), timeline.matched and timeline.fault != "off_screen"))
    model.train()
    good, bad = ([mean for mean, matched in means if matched == side] for side in (True, False))
    pairs = [(g > b) + 0.5 * (g == b) for g in good for b in bad]
    shares = {name: round(right[name] / number, 4) for name in (*CRITERIA, "all", "sources")}
    return {"parsed": parsed / number, **shares, "auc": round(float(np.mean(pairs or [math.nan])), 4), "pairs": number}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--held-out", type=int, default=480)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM

    write_tiny_judge(arguments.out, tokenizer_texts(), seed=arguments.seed)
    builder = _builder(arguments.out)
    first = FIRST_SEED + 1000
    rows = made(Rows(arguments.out), range(first, first + arguments.pairs), arguments.workers)
    model = AutoModelForCausalLM.from_pretrained(arguments.out, dtype=torch.float32).to(DEVICE)
    torch.manual_seed(arguments.seed)
    clock = Clock(adamw(model.parameters(), arguments.lr), arguments.lr, arguments.minutes, warm_up=60)
    model.train()
    pad = builder.tokenizer.pad_token_id
    for _, batch in zip(clock, batches(rows, arguments.batch, pad, arguments.seed), strict=False):
        clock.step(target_loss(model, model.lm_head, batch))
    model.save_pretrained(arguments.out, safe_serialization=True)
    record(
        arguments.out,
        clock,
        batch=arguments.batch,
        seed=arguments.seed,
        pairs=arguments.pairs,
        held_out=told(model, builder, arguments.held_out, 4 * arguments.batch),
        never_seen=f"the corpus dialect; {len(av.BASE.unseen_pairs)} pairs of colour and thing",
    )


if __name__ == "__main__":
    main()
