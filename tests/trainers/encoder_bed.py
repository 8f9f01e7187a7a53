"""Small encoders and clips whose pictures, sounds and texts belong together, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.models import encoders
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Batch, Encoder

#: Sizes at which a step takes milliseconds.
TINY: dict[str, dict[str, Any]] = {
    "dual": {"width": 32, "hidden": 48, "frames": 2, "frame_size": 16, "patch": 8, "bands": 16, "times": 16},
    "trimodal": {
        "width": 32,
        "layers": 2,
        "heads": 2,
        "decoder_width": 16,
        "frames": 2,
        "frame_size": 16,
        "patch": 8,
        "bands": 16,
        "times": 16,
        "sound_patch": 8,
        "words": 6,
        "vocabulary": 64,
    },
}


def tiny(name: str, seed: int = 0) -> Encoder:
    """An encoder of this name, small; of another package's, as it is by default."""
    torch.manual_seed(seed)
    return encoders.build(name, **TINY.get(name, {}))


class Made:
    """Clips of some classes: a class has a colour, a band and a word. Half of the clips differ in noise alone."""

    def __init__(self, encoder: Encoder, count: int, *, classes: int = 8, seed: int = 0) -> None:
        self._encoder, self._count, self._seed = encoder, count, seed
        self.digest = f"{count} clips of {classes} classes by seed {seed}"
        self._class = np.random.default_rng(seed).integers(0, classes, count)

    def __len__(self) -> int:
        return self._count

    def batch(self, places: NDArray[np.int64]) -> Batch:
        kinds = torch.from_numpy(self._class[places])
        noise = torch.Generator().manual_seed(self._seed)
        encoder, size = self._encoder, len(places)
        side, shape = encoder.frame_size, encoder.spectrogram
        video = torch.randint(0, 40, (size, encoder.frames, side, side, 3), generator=noise)
        video = video + torch.stack([kinds % 2, kinds // 2 % 2, kinds // 4 % 2], 1)[:, None, None, None] * 180
        sound = torch.rand((size, shape.bands, shape.times), generator=noise) * 0.2 - 1
        sound[torch.arange(size), kinds] += 1
        text = torch.full((size, encoder.words), 2)
        text[:, 1] = 3 + kinds % (encoder.vocabulary - 3)
        return Batch(
            video=video.byte(),
            sound=sound,
            text=text,
            present={name: torch.ones(size, dtype=torch.bool) for name in encoders.ALL},
            same={VIDEO: kinds, SOUND: kinds, TEXT: kinds},
        )
