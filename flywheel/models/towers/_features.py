"""Towers that transformers calls by ``get_text_features`` and the like: CLIP, SigLIP, CLAP, X-CLIP and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.models.encoders import SOUND, TEXT, VIDEO, Modality
from flywheel.models.towers._interface import Towers

_PICTURES, _VIDEOS, _SOUNDS, _TEXTS = (
    "get_image_features",
    "get_video_features",
    "get_audio_features",
    "get_text_features",
)
_METHODS: Mapping[str, Modality] = {_PICTURES: VIDEO, _VIDEOS: VIDEO, _SOUNDS: SOUND, _TEXTS: TEXT}


class FeatureTowers(Towers):
    """A clip's vector is the mean of its frames' unit vectors, but where the model takes videos."""

    def __init__(self, model: Any, folder: Path) -> None:
        super().__init__(model, folder)
        config = getattr(model.config, "vision_config", None)
        if hasattr(model, _VIDEOS):
            self.num_frames = getattr(config, "num_frames", None)

    @classmethod
    def modalities_of(cls, model_class: type) -> tuple[Modality, ...]:
        found = {modality for name, modality in _METHODS.items() if hasattr(model_class, name)}
        return tuple(modality for modality in (VIDEO, SOUND, TEXT) if modality in found)

    def video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        if hasattr(self.model, _VIDEOS):
            made = [self.inputs.of_videos(frames, self.device) for frames in frames_BTHWC]
            inputs = {name: torch.cat([one[name] for one in made]) for name in made[0]}
            return self._features(_VIDEOS, inputs)
        size, count = frames_BTHWC.shape[:2]
        inputs = self.inputs.of_pictures(frames_BTHWC.reshape(size * count, *frames_BTHWC.shape[2:]), self.device)
        vectors = torch.nn.functional.normalize(self._features(_PICTURES, inputs), dim=-1)
        return vectors.view(size, count, -1).mean(1)

    def sound(self, samples: Sequence[NDArray[np.float32]]) -> Tensor:
        inputs = self.inputs.of_sounds(samples, self.device)
        if "is_longer" in inputs:
            # None is; the extractor says it of one at random.
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        return self._features(_SOUNDS, inputs)

    def text(self, ids_BKL: Tensor, against: Modality) -> Tensor:
        return self._features(_TEXTS, self.inputs.named_tokens(ids_BKL.to(self.device)))

    def _features(self, method: str, inputs: Mapping[str, Tensor]) -> Tensor:
        made = getattr(self.model, method)(**inputs)
        features = made if isinstance(made, Tensor) else made.pooler_output
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError(f"{method} gives no vector of each")
        return features
