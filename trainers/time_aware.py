"""Trains what a time-aware model learns: resampler, bridge and LoRA, by the answers' cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from flywheel.core.progress import progress
from flywheel.models.time_aware import Perceived, TimeAware


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps, and the peak learning rate after a warm-up of a twentieth; cosine to a tenth. None of it is published."""

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0


def fit(model: TimeAware, batches: Iterator[Sequence[tuple[Perceived, str, str]]], plan: Plan) -> list[float]:
    """Train in place on batches of (what is perceived, query, answer); returns each step's loss in nats.

    The same seed and batches give the same weights. What is frozen stays as it is.
    """
    torch.manual_seed(plan.seed)
    learned = list(model.learned().values())
    optimizer = torch.optim.AdamW(learned, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, plan.steps))
    losses: list[float] = []
    model.train()
    with progress("time-aware", plan.steps) as bar:
        for _ in range(plan.steps):
            perceived, queries, answers = zip(*next(batches), strict=True)
            loss = model.loss(perceived, queries, answers)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learned, plan.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.advance()
    model.eval()
    return losses


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
