"""What an encoder is: vectors of one modality alone, and the losses that one learns by.

Shapes: B clips, T frames, H and W pixels, F bands, S times, L words, D width of vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.models.encoders._pictures import squares
from flywheel.models.encoders._spectrogram import SpectrogramShape, spectrograms
from flywheel.models.encoders._words import hashed_words

Modality: TypeAlias = Literal["video", "sound", "text"]
VIDEO: Modality = "video"
SOUND: Modality = "sound"
TEXT: Modality = "text"
ALL: tuple[Modality, ...] = (VIDEO, SOUND, TEXT)
#: Two modalities that are contrasted.
Pair: TypeAlias = tuple[Modality, Modality]
#: Drawn once for a batch: modality -> which of its tokens are hidden, (B, N) bool.
Masks: TypeAlias = Mapping[Modality, Tensor]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips as encoders read them.

    ``present`` says which clips have the modality at all; what others hold there is not looked at. ``same`` numbers
    videos, sounds and texts: equal ones get equal numbers, and are no negatives of one another.
    """

    #: (B, T, H, W, 3) uint8, (B, F, S) float32, (B, L) int64; or what else the encoder reads of pictures and sounds.
    video: Tensor
    sound: Tensor
    text: Tensor
    #: Modality -> (B,) bool, and (B,) int64.
    present: Mapping[Modality, Tensor]
    same: Mapping[Modality, Tensor]

    def __len__(self) -> int:
        return len(self.text)

    def of(self, modality: Modality) -> Tensor:
        """The modality's tensor."""
        tensor: Tensor = getattr(self, modality)
        return tensor

    def part(self, start: int, end: int) -> Batch:
        """The clips from ``start`` to before ``end``."""
        return self._each(lambda tensor: tensor[start:end])

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Any) -> Batch:
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = {k: change(v) for k, v in value.items()} if isinstance(value, dict) else change(value)
        return Batch(**values)


class Embedder(nn.Module, ABC):
    """Unit vectors (B, D) of clips. Vectors of a modality are made of it alone: a pair that is encoded together is told
    from others without any correspondence, which :func:`check_alone` and the leak test refuse.
    """

    #: Its name, and the sizes that :func:`flywheel.models.encoders.build` was called with.
    built_from: tuple[str, dict[str, Any]]
    #: What it makes vectors of.
    modalities: tuple[Modality, ...]
    width: int
    frames: int
    frame_size: int
    #: Of the samples that it reads, in hertz.
    rate_hz: int
    #: Modality -> id of what makes its front end, where that is worth keeping.
    kept_by: Mapping[Modality, str] = {}
    #: Clips that are read and encoded at a time: what it reads of so many is in memory.
    together: int = 64

    # Front ends: what people have -> what vectors are made of.

    @abstractmethod
    def read_video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        """Frames of any size and number ``(B, T, H, W, 3)`` uint8 -> the encoder's."""

    @abstractmethod
    def read_sound(self, samples_BS: NDArray[np.float32]) -> Tensor:
        """Mono samples ``(B, S)`` in [-1, 1] at :attr:`rate_hz` -> the encoder's. Raises ValueError for no numbers."""

    @abstractmethod
    def read_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> ids of words ``(B, …, L)``; words beyond the encoder's length are left out."""

    # Vectors of one modality alone.

    def embed_video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        """Unit vectors (B, D) of frames ``(B, T, H, W, 3)``, uint8 RGB."""
        return self._embed(VIDEO, lambda: self.read_video(frames_BTHWC))

    def embed_audio(self, samples_BS: NDArray[np.float32]) -> Tensor:
        """Unit vectors (B, D) of mono samples ``(B, S)`` in [-1, 1]."""
        return self._embed(SOUND, lambda: self.read_sound(samples_BS))

    def embed_text(self, texts: Sequence[str], against: Modality = TEXT) -> Tensor:
        """Unit vectors (B, D) of texts, to be compared with vectors of ``against``: some models make others for each.

        Raises ValueError where the encoder has no text tower.
        """
        return self._embed(TEXT, lambda: self.read_text(texts), against)

    def _embed(self, modality: Modality, read: Callable[[], Tensor], against: Modality = TEXT) -> Tensor:
        if modality not in self.modalities:
            raise ValueError(f"encoder '{self.built_from[0]}': makes no vectors of {modality}")
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                values = read().to(next(self.parameters()).device)
                vectors = self.text_vectors(values, against) if modality == TEXT else self.vectors_of(modality, values)
                return vectors.cpu()
        finally:
            self.train(was_training)

    def vectors_of_each(self, modality: Modality, values: Sequence[Tensor]) -> Tensor:
        """The vectors (B, D), on the CPU, of what was read of each of B clips; at least one."""
        return self.vectors_of(modality, torch.stack(list(values)).to(next(self.parameters()).device)).cpu()

    def text_vectors(self, values: Tensor, against: Modality) -> Tensor:
        """Unit vectors (B, D) of texts that were read, as they are compared with vectors of ``against``."""
        return self.vectors_of(TEXT, values)

    @abstractmethod
    def vectors_of(self, modality: Modality, values: Tensor) -> Tensor:
        """Unit vectors (B, D) of what was read of one modality, with gradient."""


class Encoder(Embedder):
    """An embedder that learns by telling clips of a batch from each other."""

    #: Which two it contrasts.
    pairs: tuple[Pair, ...]
    spectrogram: SpectrogramShape
    words: int
    vocabulary: int

    @property
    def rate_hz(self) -> int:  # type: ignore[override]
        return self.spectrogram.rate_hz

    @property
    def nothing(self) -> Mapping[Modality, Tensor]:
        """What stands in a batch for a picture and for a sound that a clip does not have."""
        side, shape = self.frame_size, self.spectrogram
        return {
            VIDEO: torch.zeros((self.frames, side, side, 3), dtype=torch.uint8),
            SOUND: torch.full((shape.bands, shape.times), -1.0),
        }

    def read_video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        return squares(torch.from_numpy(np.ascontiguousarray(frames_BTHWC)), self.frames, self.frame_size)

    def read_sound(self, samples_BS: NDArray[np.float32]) -> Tensor:
        return spectrograms(torch.from_numpy(np.ascontiguousarray(samples_BS)), self.spectrogram)

    def read_text(self, texts: Sequence[str]) -> Tensor:
        return hashed_words(texts, self.words, self.vocabulary)

    def vectors(self, batch: Batch) -> dict[Modality, Tensor]:
        """The vectors that are contrasted: each of its modality alone."""
        return {modality: self.vectors_of(modality, batch.of(modality)) for modality in self.modalities}

    @abstractmethod
    def contrast(
        self, vectors: Mapping[Modality, Tensor], batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of a whole batch's vectors, by name; those that are InfoNCE are ``contrast/A-B``, in nats."""

    def masks(self, batch: Batch, generator: torch.Generator) -> Masks:
        """Which tokens :meth:`local` hides, drawn for the whole batch; none where there is no such loss."""
        return {}

    def local(self, batch: Batch, masks: Masks) -> dict[str, Tensor]:
        """Losses of each clip by itself, by name: (B,), zero where it lacks the modality ``name`` ends in."""
        return {}

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """By what each loss is multiplied in the total: names, or their beginning up to ``/``."""
