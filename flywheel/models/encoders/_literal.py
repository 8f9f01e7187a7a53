"""VLSA's single pass as its equations read, for study: it leaks, and nothing trains or registers it."""

from __future__ import annotations

import torch
from torch import Tensor

from flywheel.models.encoders._blocks import mean_of
from flywheel.models.encoders._interface import TEXT, Batch, Modality
from flywheel.models.encoders._words import PAD
from flywheel.models.encoders.trimodal import Trimodal


class LiteralTrimodal(Trimodal):
    """Contrasts means over each modality's tokens after all three were encoded together.

    Each vector has seen the other two of its clip, so that the loss falls to nothing on pairs that have nothing to do
    with each other.
    """

    def vectors(self, batch: Batch) -> dict[Modality, Tensor]:
        tokens = [self.tokens(name, self.values(name, batch.of(name))) for name in self.modalities]
        seen = [
            batch.text != PAD if name == TEXT else torch.ones(token.shape[:2], dtype=torch.bool, device=token.device)
            for name, token in zip(self.modalities, tokens, strict=True)
        ]
        encoded = self.encoder(torch.cat(tokens, 1), torch.cat(seen, 1))
        parts = encoded.split([token.shape[1] for token in tokens], 1)
        return {name: mean_of(part, one) for name, part, one in zip(self.modalities, parts, seen, strict=True)}
