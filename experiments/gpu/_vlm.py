"""A Qwen3-VL with random weights at the sizes of its 2 B release (tiny on the CPU), and clips for it.

Processor and tokenizer are those of the bundled tiny model: no download, and the same code prepares the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

#: Sizes of Qwen3-VL-2B-Instruct, from its published config.json.
_TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_theta": 5_000_000,
        "rope_type": "default",
    },
}
_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "depth": 24,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Clips of a batch, their frames and the side of these in pixels."""

    clips: int
    frames: int
    side: int


def sizes(*, tiny: bool) -> Sizes:
    """4 clips of 16 frames at 448 x 448; the tiny model's own where it is only shown that a script runs."""
    return Sizes(clips=1, frames=2, side=64) if tiny else Sizes(clips=4, frames=16, side=448)


def new_model(device: str, *, tiny: bool, seed: int = 0) -> Any:
    """A model with random fp32 weights, the same for the same seed; its vision tower is frozen."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    from flywheel.playground.tiny import bundled_model

    config = AutoConfig.from_pretrained(bundled_model(), local_files_only=True)
    if not tiny:
        for part, values in ((config.text_config, _TEXT), (config.vision_config, _VISION)):
            for name, value in values.items():
                setattr(part, name, value)
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("visual." not in name)
    return model


def new_processor(wanted: Sizes) -> Any:
    """The bundled model's processor, told to keep frames at this size."""
    from flywheel.models.load import load_processor
    from flywheel.playground.tiny import bundled_model

    processor = load_processor(bundled_model())
    pixels = wanted.frames * wanted.side**2
    processor.video_processor.size = type(processor.video_processor.size)(longest_edge=pixels, shortest_edge=pixels)
    processor.video_processor.max_video_tokens = 10**9
    return processor


def clip(key: str, wanted: Sizes) -> Any:
    """A clip of noise, its frames a pure function of the key's last digit."""
    from flywheel.models.inputs import ClipInput

    times = tuple(0.5 * i for i in range(wanted.frames))
    return ClipInput(
        key=key,
        frames_THWC=_noise(int(key) % 8, wanted),
        times_s=times,
        duration_s=0.5 * wanted.frames,
        fps=8.0,
    )


_made: dict[tuple[int, Sizes], Any] = {}


def _noise(number: int, wanted: Sizes) -> Any:
    if (number, wanted) not in _made:
        shape = (wanted.frames, wanted.side, wanted.side, 3)
        _made[number, wanted] = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return _made[number, wanted]


def texts(count: int) -> list[str]:
    """Captions of the playground's scenes, some 160 tokens each, as those of a real model."""
    from flywheel.playground import scenes

    captions = [scenes.sample_scene(number).caption() for number in range(9 * count)]
    return [" ".join(captions[9 * number : 9 * number + 9]) for number in range(count)]
