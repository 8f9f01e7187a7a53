"""Models' folders as encoders: what their own models say is like is like, and what is none is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.core.encoder_folder import encoder_id, is_model_folder, knows_texts
from flywheel.core.errors import UserError
from flywheel.models.encoder_files import encoder_width, load_encoder
from flywheel.models.encoders import SOUND, TEXT, VIDEO
from flywheel.models.towers import load_towers
from tests.models.tiny_towers import save, tiny_clap, tiny_clip, tiny_perception, tokenizer

#: Transformers, and the first of its models, take seconds to import.
pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def test_a_clips_cosines_are_the_models_own(clip: Path) -> None:
    towers = load_encoder(clip)
    assert (towers.width, towers.modalities, towers.frame_size) == (24, (VIDEO, TEXT), 32)
    frames = RNG.integers(0, 255, (2, 1, 40, 64, 3), dtype=np.uint8)
    words = ["a dog", "the red wall", "music and light"]
    model, inputs = towers.towers.model, towers.towers.inputs  # type: ignore[union-attr]
    pictures = inputs.pictures([frame[0] for frame in frames], return_tensors="pt")
    with torch.inference_mode():
        made = model(**inputs.tokenizer(words, padding=True, return_tensors="pt"), **pictures)
        own = made.logits_per_text / model.logit_scale.exp()
    torch.testing.assert_close(towers.embed_text(words) @ towers.embed_video(frames).T, own, atol=1e-5, rtol=0)
    # A clip of several frames has their unit vectors' mean.
    both = towers.embed_video(np.concatenate([np.repeat(frames[:1], 4, 1), np.repeat(frames[1:], 4, 1)], 1))
    mean = torch.nn.functional.normalize(towers.embed_video(frames).mean(0, keepdim=True), dim=-1)
    torch.testing.assert_close(both, mean, atol=1e-5, rtol=0)


def test_each_clip_and_text_has_the_vector_that_it_has_alone(clip: Path) -> None:
    towers = load_encoder(clip)
    videos = [towers.read_video(RNG.integers(0, 255, (1, 3, *size, 3), dtype=np.uint8))[0] for size in _SIZES]
    together = towers.vectors_of_each(VIDEO, videos)
    alone = torch.cat([towers.vectors_of_each(VIDEO, [video]) for video in videos])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    texts = ["a dog", "", "word " * 10_000, "ein roter Hund", "一面红色的墙", "🐶"]
    vectors = towers.embed_text(texts)
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(towers.embed_text(texts[:1]), vectors[:1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="'clip': makes no vectors of sound"):
        towers.embed_audio(np.zeros((1, 100), np.float32))


#: Wide, high, and a ribbon of which the middle is seen.
_SIZES = ((40, 64), (64, 40), (40, 64), (2, 400))


@pytest.mark.parametrize("fusion", [False, True])
def test_a_sounds_cosines_are_the_models_own_and_long_ones_are_heard_in_parts(tmp_path: Path, fusion: bool) -> None:
    towers = load_encoder(tiny_clap(tmp_path, fusion=fusion))
    assert (towers.modalities, towers.rate_hz) == ((SOUND, TEXT), 16_000)
    sounds = RNG.normal(0, 0.1, (3, 24_000)).astype(np.float32)
    model, inputs = towers.towers.model, towers.towers.inputs  # type: ignore[union-attr]
    heard = inputs.sounds(list(sounds), sampling_rate=16_000, return_tensors="pt")
    heard["is_longer"] = torch.zeros((3, 1), dtype=torch.bool)
    with torch.inference_mode():
        made = model(**inputs.tokenizer(["a dog", "music"], padding=True, return_tensors="pt"), **heard)
    own = made.text_embeds @ made.audio_embeds.T
    torch.testing.assert_close(
        towers.embed_text(["a dog", "music"]) @ towers.embed_audio(sounds).T, own, atol=1e-5, rtol=0
    )
    # The extractor alone would take two seconds of them at random.
    long = RNG.normal(0, 0.1, (1, 64_000)).astype(np.float32)
    parts = towers.embed_audio(np.concatenate([long[:, :32_000], long[:, 32_000:]]))
    mean = torch.nn.functional.normalize(parts.mean(0, keepdim=True), dim=-1)
    torch.testing.assert_close(towers.embed_audio(long), mean, atol=1e-5, rtol=0)
    assert torch.isfinite(towers.embed_audio(np.zeros((1, 1), np.float32))).all()
    with pytest.raises(ValueError, match="got nan"):
        towers.embed_audio(np.full((1, 1600), np.nan, np.float32))


@pytest.mark.parametrize("name", ["PeAudioModel", "PeVideoModel", "PeAudioVideoModel"])
def test_a_text_of_pe_av_has_for_each_modality_the_models_own_cosines(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm")
    folder = tiny_perception(tmp_path, name)
    capfd.readouterr()
    towers = load_encoder(folder)
    assert capfd.readouterr().out == "", "what a command prints may be JSON"
    model, inputs = towers.towers.model, towers.towers.inputs  # type: ignore[union-attr]
    words = ["a dog", "the wall talks"]
    tokens = inputs.tokenizer(words, padding="max_length", max_length=16, return_tensors="pt")
    tokens = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    if VIDEO in towers.modalities:
        frames = RNG.integers(0, 255, (2, 8, 40, 64, 3), dtype=np.uint8)
        part = getattr(model, "video_model", model)
        part.text_model = model.text_model
        seen = torch.cat([inputs.of_videos(each, towers.towers.device)["pixel_values_videos"] for each in frames])  # type: ignore[union-attr]
        with torch.no_grad():
            made = part(**tokens, pixel_values_videos=seen)
        own = _cosines(made.text_video_embeds, made.video_embeds)
        found = towers.embed_text(words, VIDEO) @ towers.embed_video(frames).T
        torch.testing.assert_close(found, own, atol=1e-5, rtol=0)
    if SOUND in towers.modalities:
        sounds = RNG.normal(0, 0.1, (2, 16_000)).astype(np.float32)
        part = getattr(model, "audio_model", model)
        part.text_model = model.text_model
        with torch.no_grad():
            made = part(**tokens, **inputs.of_sounds(list(sounds), towers.towers.device))  # type: ignore[union-attr]
        own = _cosines(made.text_audio_embeds, made.audio_embeds)
        found = towers.embed_text(words, SOUND) @ towers.embed_audio(sounds).T
        torch.testing.assert_close(found, own, atol=1e-5, rtol=0)
    torch.testing.assert_close(towers.embed_text(words).norm(dim=1), torch.ones(2))


def _cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(first, dim=-1) @ torch.nn.functional.normalize(second, dim=-1).T


def test_the_id_is_of_all_that_makes_the_vectors(clip: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clip, tmp_path / "copy")
    assert (encoder_id(folder), encoder_width(folder)) == (encoder_id(clip), 24)
    assert is_model_folder(folder)
    assert knows_texts(folder)
    (folder / "README.md").write_text("of no account")
    assert encoder_id(folder) == encoder_id(clip)
    config = json.loads((folder / "processor_config.json").read_text())
    config["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (folder / "processor_config.json").write_text(json.dumps(config))
    assert encoder_id(folder) != encoder_id(clip)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("vision", "is a clip_vision_model model, which has no text tower"),
        ("writer", "is a gpt2 model, which has no text tower"),
        ("unknown", "can't be loaded as an encoder"),
        ("no weights", r"has no weights \(\*\.safetensors\)"),
        ("torn", "can't be loaded as an encoder"),
        ("incomplete", "weights are missing, for instance"),
        ("no processor", "can't be loaded as an encoder"),
        ("nan", "vectors of .* are no numbers"),
    ],
)
def test_a_model_of_another_kind_is_one_line(clip: Path, tmp_path: Path, what: str, why: str) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel, GPT2Config, GPT2Model

    folder = shutil.copytree(clip, tmp_path / "model")
    weights = folder / "model.safetensors"
    if what == "vision":
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        save(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16)), folder)
    elif what == "writer":
        save(GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64)), folder)
        tokenizer().save_pretrained(folder)
    elif what == "unknown":
        (folder / "config.json").write_text('{"model_type": "nobody_knows"}')
    elif what == "no weights":
        weights.rename(folder / "pytorch_model.bin")
    elif what == "torn":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "no processor":
        for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    else:
        tensors = load_file(weights)
        if what == "incomplete":
            del tensors["text_projection.weight"]
        else:
            tensors["visual_projection.weight"] *= float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=why) as caught:
        load_towers(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
