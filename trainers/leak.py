"""Whether an encoder's loss can fall without any correspondence: it must not, or its vectors find nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from flywheel.core.errors import UserError
from flywheel.metrics.retrieval import recall_at
from flywheel.models.encoders import ALL, SOUND, TEXT, VIDEO, Batch, Encoder, Modality
from trainers.contrastive import gradients

#: Share of ln B that a contrast of unrelated things must keep.
LEAST_SHARE = 0.9
_LATE = 0.25
#: Clips among which nothing may be found.
_FRESH = 64


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What training on unrelated clips came to.

    ``loss_shares`` are late contrast losses over ln B, by pair; ``recalls`` recall@1 among ``num_clips`` fresh clips,
    by direction.
    """

    loss_shares: dict[str, float]
    recalls: dict[str, float]
    num_clips: int

    @property
    def leaks(self) -> bool:
        """Whether a loss fell below what ignorance allows, or something was found that can't be."""
        chance = 1 / self.num_clips
        most = chance + 4 * math.sqrt(chance / self.num_clips)
        return min(self.loss_shares.values()) < LEAST_SHARE or max(self.recalls.values()) > most


def leak_of(encoder: Encoder, *, steps: int = 60, batch: int = 16, rate: float = 2e-3, seed: int = 0) -> Leak:
    """Train an encoder on pictures, sounds and texts that have nothing to do with each other, fresh at each step.

    All of its losses are trained, as :mod:`trainers.contrastive` does. The encoder is changed.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=rate, betas=(0.9, 0.98))
    encoder.train()
    late: dict[str, list[float]] = {}
    for step in range(steps):
        optimizer.zero_grad()
        losses = gradients(encoder, unrelated(encoder, batch, generator), chunk=batch, generator=generator)
        optimizer.step()
        if step >= (1 - _LATE) * steps:
            for name, loss in losses.items():
                late.setdefault(name, []).append(loss)
    shares = {
        name.removeprefix("contrast/"): float(np.mean(values)) / math.log(batch)
        for name, values in late.items()
        if name.startswith("contrast/")
    }
    return Leak(loss_shares=shares, recalls=_recalls(encoder, generator), num_clips=_FRESH)


@torch.no_grad()
def _recalls(encoder: Encoder, generator: torch.Generator) -> dict[str, float]:
    """Recall@1 of fresh unrelated clips, each embedded as when it is searched for: by itself."""
    clips = unrelated(encoder, _FRESH, generator)
    encoder.eval()
    vectors = {name: encoder.vectors_of(name, clips.of(name)).numpy() for name in encoder.modalities}
    return {
        f"{a}-{b}": recall_at(vectors[a] @ vectors[b].T, np.arange(_FRESH), 1)
        for a in vectors
        for b in vectors
        if a != b
    }


def unrelated(encoder: Encoder, size: int, generator: torch.Generator) -> Batch:
    """Clips whose picture, sound and text are drawn apart from each other."""
    video, sound = (_drawn(encoder, modality, size, generator) for modality in (VIDEO, SOUND))
    text = torch.randint(3, encoder.vocabulary, (size, encoder.words), generator=generator)
    numbers = torch.arange(size)
    return Batch(
        video=video,
        sound=sound,
        text=text,
        present={name: torch.ones(size, dtype=torch.bool) for name in ALL},
        same={VIDEO: numbers, SOUND: numbers, TEXT: numbers},
    )


def _drawn(encoder: Encoder, modality: Modality, size: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures with colours and noise, spectrograms with bands and noise; where a frozen model reads, its features."""
    side, shape, like = encoder.frame_size, encoder.spectrogram, encoder.nothing[modality]
    if modality in encoder.kept_by:
        return torch.randn((size, *like.shape), generator=generator)
    if modality == VIDEO:
        coarse = torch.rand((size, encoder.frames, 4, 4, 3), generator=generator)
        noise = torch.rand((size, encoder.frames, side, side, 3), generator=generator)
        grown = coarse.repeat_interleave(-(-side // 4), 2).repeat_interleave(-(-side // 4), 3)[:, :, :side, :side]
        return ((0.7 * grown + 0.3 * noise) * 255).byte()
    sound = torch.randn((size, shape.bands, 1), generator=generator) + 0.5 * torch.randn(
        (size, shape.bands, shape.times), generator=generator
    )
    return (0.4 * sound - 0.5).clamp(-1, 1)


@torch.no_grad()
def check_alone(encoder: Encoder, batch: Batch) -> None:
    """Raise UserError for an encoder whose vectors of a modality change with what else is in the clip.

    Such a one tells pairs by looking at both, and its vectors find nothing.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        together = encoder.vectors(batch)
        for modality, vectors in together.items():
            others = [other for other in encoder.modalities if other != modality]
            alone = encoder.vectors_of(modality, batch.of(modality))
            if not torch.allclose(vectors, alone, atol=1e-4) or torch.isnan(vectors).any():
                raise UserError(
                    f"encoder '{encoder.built_from[0]}': its vectors of {modality} change with the clip's "
                    f"{' and '.join(others)}, so that pairs see themselves. Make them of {modality} alone."
                )
    finally:
        encoder.train(was_training)
