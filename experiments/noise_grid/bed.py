"""The tabular bed: captions of an exactly known clean conditional, planted noise, and a softmax table that learns.

A caption has 6 words of 32; each is drawn on its own, given the clip (32 of them) and the position. The first position
is a function word (the same for every clip), the next ones are sharp and the last ones open, as words of real captions
are. A "clip" is seen some 400 times, so that what remains of total variation is the loss's doing more than the
sample's.

Shape suffixes: X clips, T positions, V words, M captions, N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noise_control import TokenContext, losses

CLIPS, POSITIONS, WORDS = 32, 6, 32
KINDS = ("other clip", "substitution", "chatter", "fixed phrase", "mixed")
#: Which words a position may take, and how far its clips' words stand apart (standard deviation of the logits).
_PLACES = (((0, 2), 0.0), ((2, 10), 4.8), ((8, 18), 4.8), ((2, 16), 2.4), ((14, 30), 1.2), ((10, 30), 0.72))
#: A clean word may, rarely, be any.
_ANY = 0.005


@dataclass(frozen=True, kw_only=True)
class Data:
    """``clean_XTV`` is the truth; ``clip_M`` and ``caption_MT`` what there is to learn from; ``anchor_*`` people's."""

    clean_XTV: Tensor
    clip_M: Tensor
    caption_MT: Tensor
    anchor_clip_A: Tensor
    anchor_AT: Tensor
    planted: float


def _generator(*key: int) -> torch.Generator:
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 17) % (2**63 - 25)
    return torch.Generator().manual_seed(seed)


def clean_conditional(seed: int) -> Tensor:
    generator = _generator(seed, 1)
    p = torch.zeros(CLIPS, POSITIONS, WORDS, dtype=torch.float64)
    p[:, 0, 0], p[:, 0, 1] = 0.97, 0.03
    for t, ((low, high), spread) in enumerate(_PLACES):
        if t:
            p[:, t, low:high] = (
                spread * torch.randn(CLIPS, high - low, generator=generator, dtype=torch.float64)
            ).softmax(-1)
    return (1 - _ANY) * p + _ANY / WORDS


def _drawn(p_MTV: Tensor, generator: torch.Generator) -> Tensor:
    return torch.multinomial(p_MTV.reshape(-1, WORDS), 1, generator=generator).reshape(p_MTV.shape[:2])


def _with_noise(caption_MT: Tensor, kind: str, rate: float, seed: int) -> Tensor:
    """Noise of a kind at a rate: per caption, or per word for ``substitution``.

    ``mixed`` is each caption's own kind.
    """
    generator, count = _generator(seed, 3), len(caption_MT)
    phrase_T = torch.randint(0, WORDS, (POSITIONS,), generator=generator)
    chatter_TV = (2 * torch.randn(POSITIONS, WORDS, generator=generator, dtype=torch.float64)).softmax(-1)
    which = (
        torch.randint(0, 4, (count,), generator=generator)
        if kind == "mixed"
        else torch.full((count,), KINDS.index(kind))
    )
    hit = torch.rand(count, generator=generator) < rate
    swapped = caption_MT[torch.randperm(count, generator=generator)]
    chatter = _drawn(chatter_TV.expand(count, -1, -1), generator)
    hit_word = torch.rand(count, POSITIONS, generator=generator) < rate
    substituted = torch.where(hit_word, torch.randint(0, WORDS, (count, POSITIONS), generator=generator), caption_MT)
    kind_M1 = which[:, None]
    whole = torch.where(kind_M1 == 0, swapped, torch.where(kind_M1 == 2, chatter, phrase_T.expand(count, -1)))
    return torch.where(kind_M1 == 1, substituted, torch.where(hit[:, None], whole, caption_MT))


def make(kind: str, rate: float, seed: int, *, num_captions: int = 12_800, num_anchors: int = 60) -> Data:
    generator = _generator(seed, 2)
    clean = clean_conditional(seed)
    clip_M = torch.randint(0, CLIPS, (num_captions,), generator=generator)
    caption_MT = _drawn(clean[clip_M], generator)
    anchor_clip = torch.randint(0, CLIPS, (num_anchors,), generator=generator)
    anchors = _drawn(clean[anchor_clip], generator)
    if rate:
        caption_MT = _with_noise(caption_MT, kind, rate, seed)
    return Data(
        clean_XTV=clean,
        clip_M=clip_M,
        caption_MT=caption_MT,
        anchor_clip_A=anchor_clip,
        anchor_AT=anchors,
        planted=rate,
    )


def learn(
    datas: Sequence[Data],
    seeds: Sequence[int],
    loss: str,
    arguments: dict[str, Any],
    *,
    num_steps: int = 500,
    batch_size: int = 128,
    rate: float = 0.1,
    look_every: int = 25,
) -> tuple[list[float], dict[str, float]]:
    """Train a table per seed with a loss; returns distances to the clean conditionals, and the loss's figures.

    The distance is the total variation, averaged over clips and positions. Losses without a state of their own may
    learn several seeds side by side, which changes nothing but the time. The tables of the last 30 % of the steps are
    averaged, so that the last batches do not blur small differences. Raises ValueError for several seeds of a loss with
    a state.
    """
    token_loss = losses.build(loss, **arguments)
    if len(datas) > 1 and set(token_loss.state_dict()) - {"steps"}:
        raise ValueError(f"{loss} keeps a state: one seed at a time")
    token_loss.prepare(num_groups=1)
    generators = [_generator(seed, 4) for seed in seeds]
    num_rows, num_captions, position = CLIPS * POSITIONS, len(datas[0].clip_M), torch.arange(POSITIONS)
    table = torch.zeros(len(datas) * num_rows, WORDS, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=rate)
    average = torch.zeros_like(table)
    start, averaged, data = num_captions, 0, datas[0]

    def rows(clips: Tensor) -> Tensor:
        return (clips[:, None] * POSITIONS + position).reshape(-1)

    sequence, anchor_sequence = (
        torch.arange(n).repeat_interleave(POSITIONS) for n in (batch_size * len(datas), len(data.anchor_clip_A))
    )
    for step in range(num_steps):
        if start + batch_size > num_captions:
            orders, start = [torch.randperm(num_captions, generator=g) for g in generators], 0
        batches = [order[start : start + batch_size] for order in orders]
        start += batch_size
        if token_loss.adapts and step % look_every == 0 and len(data.anchor_clip_A):
            with torch.no_grad():
                logits, words = table[rows(data.anchor_clip_A)], data.anchor_AT.reshape(-1)
                context = TokenContext(sequence_N=anchor_sequence)
                token_loss.observe_human(logits, words, context)
                for number, replaced in token_loss.corrupted(words, context):
                    context = TokenContext(sequence_N=anchor_sequence, group_N=torch.full_like(words, number))
                    token_loss.observe_corrupted(logits, replaced, context)
        places = torch.cat(
            [rows(d.clip_M[batch]) + i * num_rows for i, (d, batch) in enumerate(zip(datas, batches, strict=True))]
        )
        words = torch.cat([d.caption_MT[batch].reshape(-1) for d, batch in zip(datas, batches, strict=True)])
        value = token_loss(table[places], words, TokenContext(sequence_N=sequence, row_N=torch.cat(batches)[sequence]))
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.1 + 0.45 * (1 + math.cos(math.pi * step / num_steps)))
        optimizer.zero_grad()
        (value.sum() / (batch_size * POSITIONS)).backward()
        optimizer.step()
        token_loss.step()
        if step >= 0.7 * num_steps:
            average += table.detach()
            averaged += 1
    learned = (average / averaged).double().softmax(-1).reshape(len(datas), CLIPS, POSITIONS, WORDS)
    return [
        0.5 * (q - d.clean_XTV).abs().sum(-1).mean().item() for q, d in zip(learned, datas, strict=True)
    ], token_loss.figures()
