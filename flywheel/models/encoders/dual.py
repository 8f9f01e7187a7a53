"""Two towers, for pictures and sounds, without text (AVVA, arXiv 2503.09205)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.core.errors import UserError
from flywheel.models.encoders._blocks import mean_of
from flywheel.models.encoders._contrast import both_present, info_nce, negatives
from flywheel.models.encoders._interface import SOUND, VIDEO, Batch, Encoder, Modality
from flywheel.models.encoders._pictures import patches
from flywheel.models.encoders._spectrogram import SpectrogramShape
from flywheel.models.frozen import FrozenPictures, FrozenSounds

#: The side of the frames that frozen models are shown, in pixels: a multiple of patches' sides.
_SEEN_SIDE = 224


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
        seer: FrozenPictures | None = None,
        hearer: FrozenSounds | None = None,
    ) -> None:
        super().__init__()
        if frame_size % patch or spectrogram.times % sound_patch:
            raise ValueError("dual: need frame_size and times that their patches divide")
        self.width, self.frames, self.frame_size, self.patch = width, frames, frame_size, patch
        self.spectrogram, self.sound_patch, self.temperature = spectrogram, sound_patch, temperature
        sizes = {VIDEO: frames * patch * patch * 3, SOUND: spectrogram.bands * sound_patch}
        counts = {VIDEO: (frame_size // patch) ** 2, SOUND: spectrogram.times // sound_patch}
        # A frozen model's token is a frame, or a time: sizes of patches are then of no account.
        if seer is not None:
            sizes[VIDEO], counts[VIDEO] = seer.width, frames
        if hearer is not None:
            sizes[SOUND] = hearer.width
        self._frozen = (seer, hearer)
        self._tokens = {name: (counts[name], sizes[name]) for name in self.modalities}
        self.kept_by = {
            name: f"{front.id} {counts[name]} {frame_size}"
            for name, front in ((VIDEO, seer), (SOUND, hearer))
            if front is not None
        }
        if self.kept_by:
            # In the weights, and so in their id: vectors of other front ends are others.
            words = " ".join(self.kept_by.values())
            self.register_buffer("front_ends", torch.tensor(list(words.encode()), dtype=torch.uint8))
            self.register_load_state_dict_pre_hook(_check_front_ends)  # type: ignore[no-untyped-call]
        self.places = nn.ParameterDict({name: torch.empty(counts[name], sizes[name]) for name in self.modalities})
        self.aligners = nn.ModuleDict({name: _aligner(sizes[name], hidden, width, dropout) for name in self.modalities})
        for place in self.places.values():
            nn.init.normal_(place, std=0.02)

    @property
    def nothing(self) -> Mapping[Modality, Tensor]:
        return {
            name: torch.zeros(self._tokens[name]) if name in self.kept_by else blank
            for name, blank in super().nothing.items()
        }

    def read_video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        seer, _ = self._frozen
        if seer is None:
            return super().read_video(frames_BTHWC)
        if frames_BTHWC.ndim != 5 or frames_BTHWC.dtype != np.uint8 or not frames_BTHWC.shape[1]:
            raise ValueError(f"frames: need uint8 (B, T, H, W, 3), got {frames_BTHWC.dtype} {frames_BTHWC.shape}")
        chosen = ((np.arange(self.frames) + 0.5) * frames_BTHWC.shape[1] / self.frames).astype(int)
        return torch.stack([seer.features(frames[chosen]) for frames in frames_BTHWC])

    def read_sound(self, samples_BS: NDArray[np.float32]) -> Tensor:
        _, hearer = self._frozen
        if hearer is None:
            return super().read_sound(samples_BS)
        if samples_BS.ndim != 2 or not np.isfinite(samples_BS).all():
            raise ValueError("sound: need mono samples (B, S) that are numbers")
        return torch.stack([hearer.features(samples, self._tokens[SOUND][0]) for samples in samples_BS])

    def vectors_of(self, modality: Modality, values: Tensor) -> Tensor:
        numbers = values.to(self.places[modality].dtype)
        if modality in self.kept_by:
            tokens = numbers
        elif modality == VIDEO:
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


def _check_front_ends(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Raise UserError for weights that were trained on features of other models than the folders hold now."""
    now = module.get_buffer("front_ends")
    if not torch.equal(state.get(f"{prefix}front_ends", now[:0]).cpu(), now.cpu()):
        raise UserError(
            "encoder 'dual': the models in the folders of its pictures and sounds are others than it was trained with. "
            "Bring those back, or run 'flywheel index --retrain'."
        )


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
    pictures: str = "",
    sounds: str = "",
) -> Dual:
    r"""Aligner MLPs over pictures and sounds (AVVA), small: over patches, where the paper has frozen features.

    ``pictures`` and ``sounds`` are folders of frozen models (DINOv2, Whisper), whose features take the patches' place.
    The paper's aligners have ``hidden=1024, width=768``; ``temperature`` is $\tau$, fixed.
    """
    seer = FrozenPictures(Path(pictures).expanduser()) if pictures else None
    return Dual(
        seer=seer,
        hearer=FrozenSounds(Path(sounds).expanduser()) if sounds else None,
        width=width,
        hidden=hidden,
        dropout=dropout,
        frames=frames,
        frame_size=frame_size if seer is None else _SEEN_SIDE,
        patch=patch,
        spectrogram=SpectrogramShape(bands=bands, times=times, scale="mel"),
        sound_patch=sound_patch,
        temperature=temperature,
    )
