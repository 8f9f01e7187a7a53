"""Our encoder by MTEB's protocol, without MTEB itself (`experiments.retrieval.mteb_local` runs that)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.models import encoders
from flywheel.models.encoder_files import save_encoder
from flywheel.models.mteb_encoder import MtebEncoder

_TINY = {"width": 16, "heads": 2, "layers": 1, "decoder_width": 8, "frames": 1, "frame_size": 16, "patch": 8}
_TINY |= {"bands": 8, "times": 8, "sound_patch": 8}


@pytest.mark.slow
def test_batches_become_unit_vectors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(encoders.build("trimodal", **_TINY), tmp_path / "e")
    ours, rng = MtebEncoder(tmp_path / "e"), np.random.default_rng(0)
    texts = ours.encode([{"text": ["a dog", "a bell"]}, {"text": ["rain"]}], task_metadata=None, hf_split="test")
    assert texts.shape == (3, 16)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    frames = rng.integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    channels_first = torch.from_numpy(frames).permute(0, 3, 1, 2)
    first, second = (ours.encode([{"video": [value]}]) for value in (frames, channels_first))
    assert np.allclose(first, second), "channels first, as MTEB's decoder gives them"
    tone = np.sin(np.arange(32_000) / 9).astype(np.float32)
    sound = ours.encode([{"audio": [{"array": tone, "sampling_rate": 32_000}]}])
    stereo = ours.encode([{"audio": [{"array": np.stack([tone, tone]), "sampling_rate": 32_000}]}])
    assert np.allclose(sound, stereo, atol=1e-5)
    both = ours.encode([{"video": [frames], "audio": [{"array": tone, "sampling_rate": 32_000}]}])
    mean = (first + sound) / np.linalg.norm(first + sound)
    assert np.allclose(both, mean, atol=1e-5)
    assert ours.similarity(texts, texts).shape == (3, 3)
    assert torch.allclose(ours.similarity_pairwise(texts, texts), torch.ones(3), atol=1e-5)
    with pytest.raises(ValueError, match="need one of text, video, audio"):
        ours.encode([{"image": [1]}])
    with pytest.raises(ValueError, match="need frames"):
        ours.encode([{"video": [frames[0]]}])
