"""Features of frozen models in local folders, as front ends of encoders: DINOv2 and its like see, Whisper hears.

What a folder's model makes of a clip is the same each time, so that whoever reads clips may keep it by their content.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flywheel.core.encoder_folder import CONFIG, encoder_id
from flywheel.core.errors import UserError, first_line

_LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
#: Sounds longer than a model hears at once are heard in parts, at most so many.
_PARTS = 6


class _Frozen:
    """A folder's model with what makes its inputs; loaded when it is first asked. Threads may share it."""

    #: transformers' class that makes the inputs.
    auto = ""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where the folder holds no model."""
        if not (folder / CONFIG).is_file() or not any(folder.glob("*.safetensors")):
            raise UserError(f"{folder}: holds no model ({CONFIG} and *.safetensors). Name a folder that does.")
        self.folder, self._lock = folder, threading.Lock()
        self._loaded: tuple[Any, Any] | None = None
        self.id = encoder_id(folder)
        self.width = self._width()

    def _width(self) -> int:
        from transformers import AutoConfig

        try:
            sizes = AutoConfig.from_pretrained(self.folder, **_LOCAL)
            return int(getattr(sizes, "hidden_size", None) or sizes.d_model)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{self.folder}: can't be loaded as a front end ({first_line(error)}).") from error

    def parts(self) -> tuple[Any, Any]:
        """The model, on the accelerator where there is one, and its processor. Raises UserError."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> tuple[Any, Any]:
        import transformers
        from safetensors import SafetensorError

        transformers.utils.logging.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                processor = getattr(transformers, self.auto).from_pretrained(self.folder, **_LOCAL)
                model, info = transformers.AutoModel.from_pretrained(
                    self.folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_LOCAL
                )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, SafetensorError) as error:
            raise UserError(f"{self.folder}: can't be loaded as a front end ({first_line(error)}).") from error
        if missing := info["missing_keys"]:
            raise UserError(
                f"{self.folder}: weights are missing, for instance {min(missing)}. The folder is incomplete."
            )
        model.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
        return model, processor


class FrozenPictures(_Frozen):
    """Of each frame the mean over all tokens of a vision model's last layer."""

    auto = "AutoImageProcessor"

    @torch.no_grad()
    def features(self, frames_THWC: NDArray[np.uint8]) -> Tensor:
        """Features ``(T, D)`` float32 of a clip's frames. Raises UserError where the model can't be loaded."""
        model, processor = self.parts()
        pictures = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)
        inputs = processor(pictures, return_tensors="pt")
        hidden = model(pixel_values=inputs["pixel_values"].to(model.device)).last_hidden_state
        features: Tensor = hidden.flatten(2).mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)
        return features.float().cpu()


class FrozenSounds(_Frozen):
    """The mean over the layers of Whisper's encoder, but for the first, at so many times of a sound.

    AVVA joins the layers and lets a small transformer mix them; here they count alike.
    """

    auto = "AutoFeatureExtractor"
    #: Of the samples that it hears: Whisper knows no other.
    rate_hz = 16_000

    @torch.no_grad()
    def features(self, samples: NDArray[np.float32], times: int) -> Tensor:
        """Features ``(times, D)`` float32 of a sound (S,), evenly in it.

        Raises UserError where the model can't be loaded.
        """
        model, extractor = self.parts()
        longest = int(extractor.n_samples)
        number = min(_PARTS, max(1, math.ceil(len(samples) / longest)))
        edges = np.linspace(0, len(samples), number + 1).round().astype(int)
        # Of a sound that is longer than all parts together, the beginning of each.
        heard = [self._part(model, extractor, samples[a:b][:longest]) for a, b in pairwise(edges)]
        return torch.nn.functional.adaptive_avg_pool1d(torch.cat(heard).T, times).T.contiguous()

    def _part(self, model: Any, extractor: Any, samples: NDArray[np.float32]) -> Tensor:
        """Features (n, D) of what is no longer than the model hears, without those of the silence after it."""
        inputs = extractor(samples, sampling_rate=self.rate_hz, return_tensors="pt")
        encoder = model.get_encoder()
        made = encoder(inputs["input_features"].to(model.device), output_hidden_states=True)
        layers = torch.stack(made.hidden_states[1:]).mean(0)[0].float().cpu()
        kept = max(1, math.ceil(len(layers) * len(samples) / int(extractor.n_samples)))
        return layers[:kept]
