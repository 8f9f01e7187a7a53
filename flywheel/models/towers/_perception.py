"""Towers of Perception Encoder Audiovisual (PE-AV, arXiv 2512.19687): a text has a vector for each modality.

Of transformers 5.19's methods for one modality alone some raise and some are none (``PeVideoModel`` defines its own in
its constructor), so its parts are called here, as its ``forward`` calls them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from flywheel.models.encoders import SOUND, TEXT, VIDEO, Modality
from flywheel.models.towers._inputs import LOCAL
from flywheel.models.towers._interface import Towers

_MODALITIES: Mapping[str, tuple[Modality, ...]] = {
    "PeAudioModel": (SOUND, TEXT),
    "PeVideoModel": (VIDEO, TEXT),
    "PeAudioVideoModel": (VIDEO, SOUND, TEXT),
}
#: Names of weights that parts share -> the ones that are used here.
_SHARED: Mapping[str, str] = {
    "audio_video_encoder.embedder.audio_encoder.": "audio_model.audio_encoder.",
    "audio_video_encoder.embedder.video_encoder.": "video_model.video_encoder.",
    "audio_video_encoder.": "audio_video_encoder.",
    "audio_model.text_model.": "text_model.",
    "video_model.text_model.": "text_model.",
}
#: The types of these models, by their configurations.
PERCEPTION = ("pe_audio", "pe_video", "pe_audio_video")


class PerceptionTowers(Towers):
    """Vectors of each modality are its head's; a text that is compared with texts has the mean of its unit vectors."""

    @classmethod
    def modalities_of(cls, model_class: type) -> tuple[Modality, ...]:
        return _MODALITIES.get(model_class.__name__, ())

    @classmethod
    def load(cls, model_class: Any, folder: Path) -> tuple[Any, Collection[str]]:
        if model_class.__name__ != "PeAudioVideoModel":
            return super().load(model_class, folder)
        # Its from_pretrained fails (5.19) where weights that parts share were written once, as save_pretrained does.
        config = model_class.config_class.from_pretrained(folder, **LOCAL)
        model = model_class._from_config(config, dtype=torch.float32)
        tensors: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        for other, used in _SHARED.items():
            for name in [name for name in tensors if name.startswith(other)]:
                tensors.setdefault(used + name.removeprefix(other), tensors[name].clone())
        missing = model.load_state_dict(tensors, strict=False).missing_keys
        # The tower that looks at both together is not asked: its vectors are of no modality alone.
        del model.audio_video_encoder
        return model, [name for name in missing if not name.startswith(tuple(_SHARED))]

    def video(self, frames_BTHWC: NDArray[np.uint8]) -> Tensor:
        part = getattr(self.model, "video_model", self.model)
        made = [self.inputs.of_videos(frames, self.device)["pixel_values_videos"] for frames in frames_BTHWC]
        vectors: Tensor = part.video_head(part.video_encoder(pixel_values_videos=torch.cat(made)).pooler_output)
        return vectors

    def sound(self, samples: Sequence[NDArray[np.float32]]) -> Tensor:
        part = getattr(self.model, "audio_model", self.model)
        inputs = self.inputs.of_sounds(samples, self.device)
        vectors: Tensor = part.audio_head(part.audio_encoder(**inputs).pooler_output)
        return vectors

    def text(self, ids_BKL: Tensor, against: Modality) -> Tensor:
        inputs = self.inputs.named_tokens(ids_BKL.to(self.device))
        made = self.model.text_model(
            input_ids=inputs["input_ids"], attention_mask=inputs.get("attention_mask"), output_hidden_states=True
        )
        first = made.hidden_states[-1][:, 0]
        wanted = [against] if against in self.modalities and against != TEXT else self.modalities
        vectors = [self._text_head(modality)(first) for modality in wanted if modality != TEXT]
        return torch.stack([nn.functional.normalize(one, dim=-1) for one in vectors]).mean(0)

    def _text_head(self, modality: Modality) -> nn.Module:
        part = {VIDEO: "video", SOUND: "audio"}[modality]
        head: nn.Module = getattr(getattr(self.model, f"{part}_model", self.model), f"text_{part}_head")
        return head
