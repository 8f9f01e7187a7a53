"""An encoder of ours as MTEB's runner asks for one: texts, pictures and sounds in, unit vectors out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Modality

#: MTEB's columns, and what of ours each is.
_COLUMNS: Mapping[str, Modality] = {"text": TEXT, "video": VIDEO, "audio": SOUND}


class MtebEncoder:
    """``mteb.evaluate(MtebEncoder(folder), tasks=…)``: what has several modalities is the unit mean of their vectors.

    MTEB itself is imported only where it asks what the model is.
    """

    def __init__(self, folder: Path, against: Modality = TEXT) -> None:
        """Texts are compared with vectors of ``against``. Raises UserError where the folder holds no encoder."""
        self.encoder, self._revision, self._against = load_encoder(folder), encoder_id(folder), against

    @property
    def mteb_model_meta(self) -> Any:
        """The name, revision (the weights' id) and modalities of this model, as MTEB keeps them."""
        names = [column for column, modality in _COLUMNS.items() if modality in self.encoder.modalities]
        facts: dict[str, Any] = {
            "name": f"flywheel/{self.encoder.built_from[0]}",
            "revision": self._revision,
            "modalities": names,
        }
        facts |= {"embed_dim": self.encoder.width, "n_parameters": sum(p.numel() for p in self.encoder.parameters())}
        return importlib.import_module("mteb.models").ModelMeta.create_empty(overwrites=facts)

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> NDArray[np.float32]:
        """Vectors (N, D) of batches with the columns ``text``, ``video`` and ``audio``; of others nothing is read.

        Raises ValueError for a batch that has none of what the encoder knows.
        """
        parts: list[NDArray[np.float32]] = []
        for batch in inputs:
            known = {c: m for c, m in _COLUMNS.items() if c in batch and m in self.encoder.modalities}
            if not known:
                raise ValueError(f"need one of {', '.join(_COLUMNS)} that the encoder knows, got {', '.join(batch)}")
            vectors = torch.stack([self._embedded(modality, batch[column]) for column, modality in known.items()])
            parts.append(torch.nn.functional.normalize(vectors.mean(0), dim=-1).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.encoder.width), np.float32)

    def similarity(self, first: Any, second: Any) -> Tensor:
        """Cosines (N, M)."""
        return torch.as_tensor(first) @ torch.as_tensor(second).T

    def similarity_pairwise(self, first: Any, second: Any) -> Tensor:
        """Cosines (N,) of each with its own."""
        return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)

    def _embedded(self, modality: Modality, values: Any) -> Tensor:
        if modality == TEXT:
            return self.encoder.embed_text([str(text) for text in values], self._against)
        if modality == VIDEO:
            return torch.cat([self.encoder.embed_video(_frames(value)[None]) for value in values])
        rate_hz = self.encoder.rate_hz
        return torch.cat([self.encoder.embed_audio(_samples(value, rate_hz)[None]) for value in values])


def _frames(value: Any) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) uint8, of those or of (T, 3, H, W) as MTEB's decoder gives them."""
    frames = np.asarray(value["frames"] if isinstance(value, Mapping) else value)
    if frames.ndim != 4 or 3 not in (frames.shape[1], frames.shape[3]):
        raise ValueError(f"video: need frames (T, 3, H, W) or (T, H, W, 3), got {frames.shape}")
    return frames.astype(np.uint8) if frames.shape[3] == 3 else frames.transpose(0, 2, 3, 1).astype(np.uint8)


def _samples(value: Mapping[str, Any], rate_hz: int) -> NDArray[np.float32]:
    """Mono samples at this rate."""
    samples, rate = np.asarray(value["array"], np.float32), int(value["sampling_rate"])
    if samples.ndim == 2:
        samples = samples.mean(0 if samples.shape[0] < samples.shape[1] else 1)
    if rate != rate_hz:
        common = gcd(rate, rate_hz)
        samples = resample_poly(samples, rate_hz // common, rate // common)
    found: NDArray[np.float32] = samples.astype(np.float32)
    return found
