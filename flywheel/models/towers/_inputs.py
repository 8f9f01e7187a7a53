"""What makes a model's inputs: the folder's own tokenizer, image or video processor and feature extractor."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.models.encoders import SOUND, TEXT, VIDEO, Modality

#: From the folder alone, by transformers' classes alone: anything else could run code.
LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
#: Tokens of a text that are looked at, at most.
_MOST_TOKENS = 256
#: Up to so many tokens texts are padded to the model's length: some models are trained on nothing else.
_PADDED = 128
#: The side of pictures where a processor says none, in pixels.
_SIDE = 224


class Inputs:
    """The processors of a folder: what pictures, sounds and texts become before a tower looks at them."""

    def __init__(self, folder: Path, modalities: Sequence[Modality]) -> None:
        """Raises ValueError where one of a modality is not there."""
        processor = _loaded("AutoProcessor", folder)
        words = processor if hasattr(processor, "vocab_size") else getattr(processor, "tokenizer", None)
        seen = getattr(processor, "image_processor", None) or getattr(processor, "video_processor", None)
        self.tokenizer: Any = words or _loaded("AutoTokenizer", folder)
        # Some processors are known to nobody, but their parts are.
        self.pictures: Any = seen
        if VIDEO in modalities and seen is None:
            self.pictures = _loaded("AutoVideoProcessor", folder) or _loaded("AutoImageProcessor", folder)
        self.sounds: Any = getattr(processor, "feature_extractor", None)
        if SOUND in modalities and self.sounds is None:
            self.sounds = _loaded("AutoFeatureExtractor", folder)
        parts = {TEXT: self.tokenizer, VIDEO: self.pictures, SOUND: self.sounds}
        for modality in modalities:
            if parts[modality] is None:
                raise ValueError(f"no processor of {modality}; save the model's processor beside it")

    @property
    def side(self) -> int:
        """The side of the pictures that a tower sees, in pixels."""
        for name in ("crop_size", "size"):
            sizes = getattr(self.pictures, name, None)
            values = [getattr(sizes, key, None) for key in ("height", "width", "shortest_edge")]
            if any(values):
                return max(int(value) for value in values if value)
        return _SIDE

    @property
    def rate_hz(self) -> int:
        """Of samples."""
        return int(self.sounds.sampling_rate)

    @property
    def longest_s(self) -> float | None:
        """How much of a sound the extractor takes, in seconds; None for any length."""
        longest = getattr(self.sounds, "max_length_s", None)
        return float(longest) if longest else None

    def most_tokens(self, config: Any) -> int:
        """Tokens of a text that a model with this configuration takes."""
        places = getattr(config.get_text_config(), "max_position_embeddings", None) or _MOST_TOKENS
        # Some count places from the number of the padding on.
        known = int(self.tokenizer.model_max_length)
        return max(4, min(known if known <= places else places - 2, _MOST_TOKENS))

    def tokens(self, texts: Sequence[str], most: int) -> Tensor:
        """The inputs ``(B, K, L)`` int64 of texts, K of them by the tokenizer's names."""
        made = self.tokenizer(
            list(texts),
            padding="max_length" if most <= _PADDED else True,
            truncation=True,
            max_length=most,
            return_tensors="pt",
        )
        return torch.stack([made[name] for name in self.names_of_tokens()], 1).long()

    def names_of_tokens(self) -> list[str]:
        """What the tokenizer gives for a text: ids, mostly with a mask."""
        return list(self.tokenizer.model_input_names)

    def named_tokens(self, ids_BKL: Tensor) -> dict[str, Tensor]:
        """The inputs by name, as a tower takes them."""
        return dict(zip(self.names_of_tokens(), ids_BKL.unbind(1), strict=True))

    def of_pictures(self, frames: NDArray[np.uint8], device: torch.device) -> dict[str, Tensor]:
        """What an image tower takes of pictures ``(N, H, W, 3)``."""
        channels_first = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        made = self.pictures(channels_first, return_tensors="pt")
        return {name: value.to(device) for name, value in made.items()}

    def of_videos(self, frames: NDArray[np.uint8], device: torch.device) -> dict[str, Tensor]:
        """What a video tower takes of one clip's frames ``(T, H, W, 3)``."""
        channels_first = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        if hasattr(self.pictures, "sample_frames"):
            # They were chosen.
            made = self.pictures([channels_first], do_sample_frames=False, return_tensors="pt")
        else:
            made = self.pictures([list(channels_first)], return_tensors="pt")
        return {name: value.to(device) for name, value in made.items()}

    def of_sounds(self, samples: Sequence[NDArray[np.float32]], device: torch.device) -> dict[str, Tensor]:
        """What a sound tower takes of sounds (S,)."""
        made = self.sounds(list(samples), sampling_rate=self.rate_hz, return_tensors="pt")
        return {name: torch.as_tensor(value).to(device) for name, value in made.items()}


def _loaded(auto: str, folder: Path) -> Any:
    """What one of transformers' automatic classes makes of a folder; None where it makes nothing."""
    import transformers

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ImportError, AttributeError):
        return getattr(transformers, auto).from_pretrained(folder, **LOCAL)
    return None
