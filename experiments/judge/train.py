"""Trains the tiny judge that is to ship in the package: from two texts to five reasons with scores, and three lists.

    python experiments/judge/train.py --out FOLDER --minutes 14

It reads texts of the base world's dialect alone. Half of the pairs are shown with what is heard first.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.judge.pairs import answer, question, timeline_of
from experiments.judge.tiny import write_tiny_judge
from flywheel.core.types import CRITERIA
from flywheel.models.inputs import InputBuilder
from flywheel.models.prompt import load_prompt
from flywheel.playground import av

#: Seeds of what is learned and of what is held out; the playground's corpora use seeds far below.
FIRST_SEED, HELD_OUT_SEED = 70_000_000, 71_000_000
PROMPT = load_prompt(Path("annotators/prompts/judge.yaml"))
BATCH, POOL = 16, 256


def tokenizer_texts() -> list[str]:
    """Questions and answers, and numbers."""
    timelines = [timeline_of(FIRST_SEED + seed) for seed in range(400)]
    lines = [text for timeline in timelines for text in (question(timeline, PROMPT), answer(timeline))]
    return [*lines, *[f"{t:.1f}" for t in np.arange(0, 10, 0.1)] * 10]


class Batches:
    """Batches without end, of rows of like length: little is padded."""

    def __init__(self, builder: InputBuilder, seed: int) -> None:
        self.builder, self.seed = builder, seed
        self.waiting: list[list[tuple[list[int], int]]] = []

    def row(self, seed: int) -> tuple[list[int], int]:
        timeline = timeline_of(seed)
        row = self.builder.row(None, question(timeline, PROMPT, swapped=seed % 2 == 1), answer(timeline))
        return row.ids, row.num_prompt

    def next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if not self.waiting:
            rows = sorted((self.row(self.seed + i) for i in range(POOL)), key=lambda row: len(row[0]))
            self.seed += POOL
            lots = [rows[start : start + BATCH] for start in range(0, POOL, BATCH)]
            self.waiting = [lots[i] for i in np.random.default_rng(self.seed).permutation(len(lots))]
        rows = self.waiting.pop()
        longest = max(len(ids) for ids, _ in rows)
        pad = self.builder.tokenizer.pad_token_id
        ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
        labels = torch.tensor([[-100] * prompt + ids[prompt:] + [-100] * (longest - len(ids)) for ids, prompt in rows])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
        return ids, mask, labels


def loss_of(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the answers; the question's logits are not made."""
    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    places = wanted != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[places]), wanted[places])


@torch.no_grad()
def held_out(model: torch.nn.Module, builder: InputBuilder, number: int) -> dict[str, object]:
    """Shares of held-out pairs whose scores are told exactly, of greedy replies, and the AUC of matched pairs."""
    model.eval()
    right, parsed, means = Counter[str](), 0, []
    for start in range(HELD_OUT_SEED, HELD_OUT_SEED + number, BATCH):
        timelines = [timeline_of(seed) for seed in range(start, min(start + BATCH, HELD_OUT_SEED + number))]
        batch = builder.build([None] * len(timelines), [question(timeline, PROMPT) for timeline in timelines])
        written = model.generate(**batch, max_new_tokens=320, do_sample=False)[:, batch["input_ids"].shape[1] :]
        for timeline, ids in zip(timelines, written, strict=True):
            true = json.loads(answer(timeline))
            try:
                said = json.loads(builder.tokenizer.decode(ids, skip_special_tokens=True))
                scores = {name: said[name]["score"] for name in CRITERIA}
            except (ValueError, KeyError, TypeError):
                continue
            parsed += 1
            same = {name: scores[name] == true[name]["score"] for name in CRITERIA}
            right.update(name for name, value in same.items() if value)
            right["all"] += all(same.values())
            right["sources"] += all(said.get(k) == true[k] for k in ("seen_and_heard", "heard_unseen", "seen_silent"))
            means.append((float(np.mean(list(scores.values()))), timeline.matched and timeline.fault != "off_screen"))
    model.train()
    good, bad = ([mean for mean, matched in means if matched == side] for side in (True, False))
    pairs = [(g > b) + 0.5 * (g == b) for g in good for b in bad]
    names = (*CRITERIA, "all", "sources")
    shares = {name: round(right[name] / number, 4) for name in names}
    return {"parsed": parsed / number, **shares, "auc": round(float(np.mean(pairs or [math.nan])), 4), "pairs": number}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_tiny_judge(arguments.out, tokenizer_texts(), seed=arguments.seed)
    builder = InputBuilder(AutoTokenizer.from_pretrained(arguments.out))
    model = AutoModelForCausalLM.from_pretrained(arguments.out, dtype=torch.float32)
    torch.manual_seed(arguments.seed)
    batches = Batches(builder, FIRST_SEED + 1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    started, cpu, step = time.monotonic(), time.process_time(), 0
    recent: list[float] = []
    while (done := (time.monotonic() - started) / (60 * arguments.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * min(1.0, (step + 1) / 60) * (0.55 + 0.45 * math.cos(math.pi * done))
        loss = loss_of(model, *batches.next())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append(loss.item())
        if step % 20 == 0:
            used = f"{time.process_time() - cpu:.0f} CPU s, {time.monotonic() - started:.0f} s"
            print(f"step {step} loss {np.mean(recent[-20:]):.4f} {used}", flush=True)
        if step % 150 == 0:
            model.save_pretrained(arguments.out, safe_serialization=True)
    model.save_pretrained(arguments.out, safe_serialization=True)
    record = {
        "steps": step,
        "batch": BATCH,
        "lr": arguments.lr,
        "seed": arguments.seed,
        "final_loss": float(np.mean(recent[-50:])),
        "cpu_s": time.process_time() - cpu,
        "held_out": held_out(model, builder, 96),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "never_seen": f"the corpus dialect; {len(av.BASE.unseen_pairs)} pairs of colour and thing",
    }
    (arguments.out / "training_record.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
