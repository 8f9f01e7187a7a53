"""Two towers, for pictures and sounds, without text (AVVA, arXiv 2503.09205)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flywheel.models.encoders._blocks import mean_of
from flywheel.models.encoders._contrast import both_present, info_nce, negatives
from flywheel.models.encoders._interface import SOUND, VIDEO, Batch, Encoder, Modality
from flywheel.models.encoders._pictures import patches
from flywheel.models.encoders._spectrogram import SpectrogramShape


class Dual(Encoder):
    """An aligner MLP for each modality over its tokens, then their mean.

    The paper attends between both before pooling, and does not say how one is embedded whose partner is not known.
    Encoded together, a pair is told from others without any correspondence; so here each is encoded alone.
    """

    modalities = (VIDEO, SOUND)
    pairs = ((VIDEO, SOUND),)
    words, vocabulary = 2, 4

    def __init__(
        self,
        *,
        width: int,
        hidden: int,
        dropout: float,
        frames: int,
        frame_size: int,
        patch: int,
        spectrogram: SpectrogramShape,
        sound_patch: int,
        temperature: float,
    ) -> None:
        super().__init__()
        if frame_size % patch or spectrogram.times % sound_patch:
            raise ValueError("dual: need frame_size and times that their patches divide")
        self.width, self.frames, self.frame_size, self.patch = width, frames, frame_size, patch
        self.spectrogram, self.sound_patch, self.temperature = spectrogram, sound_patch, temperature
        sizes = {VIDEO: frames * patch * patch * 3, SOUND: spectrogram.bands * sound_patch}
        counts = {VIDEO: (frame_size // patch) ** 2, SOUND: spectrogram.times // sound_patch}
        self.places = nn.ParameterDict({name: torch.empty(counts[name], sizes[name]) for name in self.modalities})
        self.aligners = nn.ModuleDict({name: _aligner(sizes[name], hidden, width, dropout) for name in self.modalities})
        for place in self.places.values():
            nn.init.normal_(place, std=0.02)

    def vectors_of(self, modality: Modality, values: Tensor) -> Tensor:
        numbers = values.to(self.places[modality].dtype)
        if modality == VIDEO:
            # A place of all frames is a token, so that what moves is within one.
            tokens = patches(numbers / 127.5 - 1, self.patch).transpose(1, 2).flatten(2)
        else:
            # All bands at a time: which of them sound is what a token is about.
            tokens = numbers.view(*numbers.shape[:2], -1, self.sound_patch).permute(0, 2, 1, 3).flatten(2)
        return mean_of(self.aligners[modality](tokens + self.places[modality]), None)

    def contrast(
        self, vectors: Mapping[Modality, Tensor], batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        [pair] = self.pairs
        apart, present = negatives(batch, pair), both_present(batch, pair)
        loss = info_nce(vectors[VIDEO], vectors[SOUND], apart, present, self.temperature)
        return {"contrast/video-sound": loss}

    def weights(self) -> Mapping[str, float]:
        return {"contrast": 1.0}


def _aligner(size: int, hidden: int, width: int, dropout: float) -> nn.Module:
    """MLP in -> hidden -> width, with LayerNorm, ReLU and dropout between."""
    return nn.Sequential(
        nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
    )


def dual(
    width: int = 64,
    hidden: int = 256,
    dropout: float = 0.2,
    frames: int = 4,
    frame_size: int = 64,
    patch: int = 16,
    bands: int = 64,
    times: int = 64,
    sound_patch: int = 8,
    temperature: float = 0.07,
) -> Dual:
    r"""Aligner MLPs over pictures and sounds (AVVA), small: over patches, where the paper has frozen features.

    The paper's aligners have ``hidden=1024, width=768``; ``temperature`` is $\tau$, fixed.
    """
    return Dual(
        width=width,
        hidden=hidden,
        dropout=dropout,
        frames=frames,
        frame_size=frame_size,
        patch=patch,
        spectrogram=SpectrogramShape(bands=bands, times=times, scale="mel"),
        sound_patch=sound_patch,
        temperature=temperature,
    )
