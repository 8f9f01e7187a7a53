"""What frozen encoders make of a clip: tokens of pictures and of sounds, each with the time it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.models.inputs import SOUND_RATE_HZ, ClipInput
from flywheel.models.load import Vlm, load_vlm

#: Frames that an encoder gets at a time; of each pair it makes tokens that the others do not change.
_FRAMES = 8
#: Seconds of sound that are encoded by themselves, and of a token.
_WINDOW_S, _HEARD_S = 3.2, 1.6
#: Tokens of an encoder become one of their mean and their largest values.
POOLED = 2


@dataclass(frozen=True, kw_only=True)
class Perceived:
    """V tokens of pictures and A of sounds with their spans in seconds; 0 tokens of what a clip lacks."""

    seen_VD: Tensor
    seen_span_V2: Tensor
    heard_AD: Tensor
    heard_span_A2: Tensor


class Encoders:
    """The vision tower of one model and the audio tower of another, as they are."""

    def __init__(self, vision: Path, audio: Path) -> None:
        """Raises UserError for folders of models that do not see, or do not hear."""
        self._eyes: Vlm = load_vlm(vision, precision="fp32", on_cpu=True)
        self._ears: Vlm = load_vlm(audio, precision="fp32", on_cpu=True, inputs=("sound",))
        for vlm in (self._eyes, self._ears):
            vlm.model.requires_grad_(False)
        self.seen_width = POOLED * int(self._eyes.model.config.vision_config.out_hidden_size)
        self.heard_width = POOLED * int(self._ears.model.config.audio_config.output_dim)

    def __call__(self, clip: ClipInput) -> Perceived:
        """What is perceived of a clip's frames and sound."""
        frames, times_s = clip.frames_THWC, clip.times_s
        seen = self.seen(frames, times_s) if frames is not None else _nothing(self.seen_width)
        heard = self.heard(clip.sound) if clip.sound is not None else _nothing(self.heard_width)
        return Perceived(seen_VD=seen[0], seen_span_V2=seen[1], heard_AD=heard[0], heard_span_A2=heard[1])

    @torch.no_grad()
    def seen(self, frames_THWC: NDArray[np.uint8], times_s: Sequence[float]) -> tuple[Tensor, Tensor]:
        """A token ``(V, D)`` of each pair of frames, and its span ``(V, 2)``; an odd last frame is shown twice."""
        if len(times_s) % 2:
            frames_THWC, times_s = np.concatenate([frames_THWC, frames_THWC[-1:]]), (*times_s, times_s[-1])
        tokens, process = [], self._eyes.processor.video_processor
        for start in range(0, len(times_s), _FRAMES):
            part = frames_THWC[start : start + _FRAMES]
            values = process(videos=[part], do_sample_frames=False, return_tensors="pt")
            grid = values["video_grid_thw"]
            made = self._eyes.model.model.visual(values["pixel_values_videos"], grid_thw=grid).pooler_output
            tokens.append(_pooled(made.unflatten(0, (int(grid[0, 0]), -1))))
        spans = torch.tensor(list(zip(times_s[::2], times_s[1::2], strict=True)), dtype=torch.float32)
        return torch.cat(tokens), spans

    @torch.no_grad()
    def heard(self, sound: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """A token ``(A, D)`` of each 1.6 s of sound, and its span ``(A, 2)``."""
        step = round(_WINDOW_S * SOUND_RATE_HZ)
        windows = [sound[start : start + step] for start in range(0, max(len(sound), 1), step)]
        windows = [np.pad(window, (0, step - len(window))) for window in windows]
        extract = self._ears.processor.feature_extractor
        values = extract(
            windows, sampling_rate=SOUND_RATE_HZ, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        made = self._ears.model.get_audio_features(
            values["input_features"], feature_attention_mask=values["attention_mask"]
        ).last_hidden_state
        per_window = len(made) // len(windows)
        parts = round(_WINDOW_S / _HEARD_S)
        tokens = made[: per_window * len(windows)].unflatten(0, (len(windows), per_window))
        tokens = tokens[:, : per_window // parts * parts].unflatten(1, (parts, -1)).flatten(0, 1)
        starts = _HEARD_S * torch.arange(len(tokens), dtype=torch.float32)
        return _pooled(tokens), torch.stack([starts, starts + _HEARD_S], dim=-1)


def _pooled(tokens_NTD: Tensor) -> Tensor:
    """Mean and largest of the tokens of each, side by side: ``(N, 2 D)``."""
    return torch.cat([tokens_NTD.mean(1), tokens_NTD.amax(1)], dim=-1)


def _nothing(width: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(0, width), torch.zeros(0, 2)
