"""Losses over pairs of vectors: InfoNCE both ways, and whether two belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from flywheel.models.encoders._interface import Batch, Pair


def negatives(batch: Batch, pair: Pair) -> Tensor:
    """Which two clips (B, B) may be told apart: not a clip and itself, nor two that share a video, sound or text.

    The text of one is not told from the picture of another with an equal text: it is right of both.
    """
    first, second = (batch.same[modality] for modality in pair)
    alike = (first[:, None] == first[None]) | (second[:, None] == second[None])
    return ~alike


def both_present(batch: Batch, pair: Pair) -> Tensor:
    """Which clips (B,) have both."""
    first, second = (batch.present[modality] for modality in pair)
    return first & second


def info_nce(a_BD: Tensor, b_BD: Tensor, negative_BB: Tensor, present_B: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Mean of $-\log \mathrm{softmax}_j(\langle a_i, b_j \rangle / \tau)_i$ both ways, in nats (CLIP, Radford 2021).

    What is no negative of a clip, and clips without a modality, are left out of the sum. ``ln B`` where nothing is
    known; 0 where fewer than two clips have both.
    """
    size = len(a_BD)
    counts = (negative_BB | torch.eye(size, dtype=torch.bool, device=a_BD.device)) & present_B[None]
    logits = a_BD @ b_BD.T / temperature
    hidden = torch.finfo(logits.dtype).min
    right = logits.diagonal()
    losses = [
        way.masked_fill(~kept, hidden).logsumexp(1) - right for way, kept in ((logits, counts), (logits.T, counts))
    ]
    # Not by a product: where nothing is left to tell apart the value is beyond all numbers, and times 0 none.
    kept_losses = torch.where(present_B, losses[0], 0).sum() + torch.where(present_B, losses[1], 0).sum()
    return kept_losses / (2 * present_B.sum().clamp_min(1))


def matching(
    head: torch.nn.Module,
    a_BD: Tensor,
    b_BD: Tensor,
    negative_BB: Tensor,
    present_B: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Cross-entropy of whether two belong together, half own pairs, half with one drawn from another clip.

    ``head`` gets the product of both vectors, element by element: on the two vectors side by side a linear layer
    learns nothing. ln 2 where nothing is known.
    """
    allowed = (negative_BB & present_B[None]).float().cpu()
    rows = present_B & allowed.any(1).to(present_B.device)
    drawn = torch.multinomial(allowed + 1e-9, 1, generator=generator)[:, 0].to(b_BD.device)
    own, made = head(a_BD * b_BD)[:, 0], head(a_BD * b_BD[drawn])[:, 0]
    losses = (torch.nn.functional.softplus(-own) + torch.nn.functional.softplus(made)) / 2
    weights = rows.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp_min(1)
