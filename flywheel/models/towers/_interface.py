"""What towers are: a model's parts that make vectors of pictures, of sounds and of texts, in one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.models.encoders import Modality
from flywheel.models.towers._inputs import LOCAL, Inputs


class Towers(nn.Module, ABC):
    """A model with what makes its inputs. Shapes: B clips, T frames, H and W pixels, S samples, L tokens, D width."""

    def __init__(self, model: Any, folder: Path) -> None:
        """Raises ValueError where the folder lacks what makes the inputs of a tower."""
        super().__init__()
        self.model = model
        self.inputs = Inputs(folder, self.modalities_of(type(model)))

    @classmethod
    @abstractmethod
    def modalities_of(cls, model_class: type) -> tuple[Modality, ...]:
        """What a class of transformers makes vectors of."""

    @classmethod
    def lacking(cls, model_class: type) -> str:
        """What a class lacks to be searched by, in words; nothing where it lacks nothing."""
        modalities = cls.modalities_of(model_class)
        if "text" not in modalities:
            return "text tower"
        return "" if len(modalities) > 1 else "picture or sound tower"

    @classmethod
    def load(cls, model_class: Any, folder: Path) -> tuple[Any, Collection[str]]:
        """A folder's model in float32 on the CPU, and names of weights that it lacks.

        Raises what transformers raises.
        """
        model, info = model_class.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **LOCAL
        )
        return model, info["missing_keys"]

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What it makes vectors of."""
        return self.modalities_of(type(self.model))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    #: How many frames it must be shown; None where any number will do.
    num_frames: int | None = None

    @abstractmethod
    def video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        """Vectors (B, D) of clips' frames, of any length."""

    @abstractmethod
    def sound(self, samples: Sequence[NDArray[np.float32]]) -> Tensor:
        """Vectors (B, D) of sounds (S,) that are no longer than the tower takes, of any length."""

    @abstractmethod
    def text(self, ids_BKL: Tensor, against: Modality) -> Tensor:
        """Vectors (B, D) of tokens to be compared with those of a modality, of any length."""
