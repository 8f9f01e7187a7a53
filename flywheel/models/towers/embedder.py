"""A model's towers as search embeds by them: unit vectors of clips, of whatever length and size they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.models.encoders import SOUND, TEXT, VIDEO, Embedder, Modality
from flywheel.models.towers._interface import Towers

#: Frames of a clip that are looked at, where the model does not say.
_FRAMES = 8
#: Sounds are heard in parts of so many seconds, at most, and so many parts of one clip.
_LONGEST_S, _PARTS = 10.0, 6
#: Shorter sounds are padded with silence: extractors fail on a few samples.
_SHORTEST_S = 0.1
#: Clips, texts and parts of sounds that a tower gets at a time.
_CLIPS, _TEXTS, _SOUNDS = 8, 64, 4


#: Of pictures that are longer than so many times their breadth the middle is seen: scaled by the shorter side, a
#: ribbon would fill the memory.
_LONGEST_PICTURE = 4


class FolderEmbedder(Embedder):
    """Vectors by a model's folder. What is read stays as it is: inputs are made when vectors are."""

    together = 16

    def __init__(self, towers: Towers, name: str) -> None:
        """Raises ValueError for towers whose vectors can't be compared with each other."""
        super().__init__()
        self.towers, self.built_from, self.modalities = towers, (name, {}), towers.modalities
        inputs = towers.inputs
        self.frames = towers.num_frames or _FRAMES
        self.frame_size = inputs.side if VIDEO in self.modalities else 0
        self.rate_hz = inputs.rate_hz if SOUND in self.modalities else 0
        self._most_tokens = inputs.most_tokens(towers.model.config)
        self._longest = round(min(inputs.longest_s or _LONGEST_S, _LONGEST_S) * self.rate_hz)
        self.width = self._checked_width()

    def read_video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        frames = torch.from_numpy(np.ascontiguousarray(frames_BTHWC))
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or not frames.shape[1]:
            raise ValueError(f"frames: need uint8 (B, T, H, W, 3), got {frames.dtype} {tuple(frames.shape)}")
        chosen = ((torch.arange(self.frames) + 0.5) * frames.shape[1] / self.frames).long()
        return _middle(frames[:, chosen])

    def read_sound(self, samples_BS: NDArray[np.float32]) -> Tensor:
        samples = torch.from_numpy(np.ascontiguousarray(samples_BS)).float()
        if samples.ndim != 2:
            raise ValueError(f"sound: need mono samples (B, S), got {tuple(samples.shape)}")
        if not torch.isfinite(samples).all():
            raise ValueError("sound: need numbers as samples, got nan or infinity")
        return torch.nn.functional.pad(samples, (0, max(0, round(_SHORTEST_S * self.rate_hz) - samples.shape[1])))

    def read_text(self, texts: Sequence[str]) -> Tensor:
        return self.towers.inputs.tokens(texts, self._most_tokens)

    def vectors_of_each(self, modality: Modality, values: Sequence[Tensor]) -> Tensor:
        vectors = torch.zeros((len(values), self.width))
        shapes: dict[torch.Size, list[int]] = {}
        for place, value in enumerate(values):
            shapes.setdefault(value.shape, []).append(place)
        for places in shapes.values():
            vectors[places] = self.vectors_of(modality, torch.stack([values[place] for place in places])).cpu()
        return vectors

    def vectors_of(self, modality: Modality, values: Tensor) -> Tensor:
        if modality == TEXT:
            return self.text_vectors(values, TEXT)
        if modality == SOUND:
            return self._unit([self._sound(one) for one in values.cpu().numpy()])
        frames = values.cpu().numpy()
        return self._unit([self.towers.video(frames[at : at + _CLIPS]) for at in range(0, len(frames), _CLIPS)])

    def text_vectors(self, values: Tensor, against: Modality) -> Tensor:
        return self._unit([self.towers.text(values[at : at + _TEXTS], against) for at in range(0, len(values), _TEXTS)])

    def _sound(self, samples: NDArray[np.float32]) -> Tensor:
        """The vector (1, D) of a sound: the mean of its parts' unit vectors, which lie evenly in it."""
        number = min(_PARTS, max(1, math.ceil(len(samples) / self._longest)))
        starts = np.linspace(0, max(0, len(samples) - self._longest), number).round().astype(int)
        parts = [samples[start : start + self._longest] for start in starts]
        vectors = [self.towers.sound(parts[at : at + _SOUNDS]) for at in range(0, number, _SOUNDS)]
        return torch.nn.functional.normalize(torch.cat(vectors), dim=-1).mean(0, keepdim=True)

    def _unit(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.nn.functional.normalize(torch.cat(list(parts)).float(), dim=-1)

    def _checked_width(self) -> int:
        """The width of all towers' vectors, which are made of next to nothing."""
        with torch.inference_mode():
            made = {TEXT: self.towers.text(self.read_text(["a"]), TEXT)}
            if VIDEO in self.modalities:
                side = max(8, self.frame_size)
                made[VIDEO] = self.towers.video(np.zeros((1, self.frames, side, side, 3), np.uint8))
            if SOUND in self.modalities:
                made[SOUND] = self.towers.sound([np.zeros(round(_SHORTEST_S * self.rate_hz), np.float32)])
        for name, vectors in made.items():
            if not torch.isfinite(vectors).all():
                raise ValueError(f"vectors of {name} are no numbers")
        widths = {name: int(vectors.shape[-1]) for name, vectors in made.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"their widths are {', '.join(f'{width} of {name}' for name, width in widths.items())}")
        return widths[TEXT]


def _middle(frames_BTHWC: Tensor) -> Tensor:
    """The middles of frames that are very long or very high."""
    height, width = frames_BTHWC.shape[2:4]
    most = _LONGEST_PICTURE * max(1, min(height, width))
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return frames_BTHWC[:, :, top : top + most, left : left + most]
