"""Folders of tiny random models with towers, as transformers saves them: CLIP, CLAP, PE-AV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_TEXT = {**_SIZES, "vocab_size": 64, "max_position_embeddings": 24}
_TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WORDS = [
    "a",
    "the",
    "dog",
    "woman",
    "man",
    "red",
    "wall",
    "talks",
    "music",
    "space",
    "light",
    "dark",
    "and",
    "in",
    "of",
    "with",
    "on",
    "hands",
]


def tokenizer(longest: int = 16) -> Any:
    """A tokenizer of a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *_WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    marks = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=longest, **marks)


def tiny_clip(folder: Path, seed: int = 0, width: int = 24) -> Path:
    """A CLIP that sees 32 x 32 pixels."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(seed)
    vision = {**_SIZES, "image_size": 32, "patch_size": 16}
    save(CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=vision, projection_dim=width)), folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer()).save_pretrained(folder)
    return folder


def tiny_clap(folder: Path, seed: int = 0, *, fusion: bool = False) -> Path:
    """A CLAP that hears two seconds."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    torch.manual_seed(seed)
    audio = {"window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4]}
    audio |= {"hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2}
    audio |= {"patch_embeds_hidden_size": 16, "enable_fusion": fusion, "num_classes": 2}
    save(ClapModel(ClapConfig(text_config=_TEXT, audio_config=audio, projection_dim=24)), folder)
    sounds = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=16_000,
        hop_length=160,
        max_length_s=2,
        fft_window_size=400,
        frequency_max=8000,
        truncation="fusion" if fusion else "rand_trunc",
    )
    ClapProcessor(sounds, tokenizer()).save_pretrained(folder)
    return folder


def tiny_perception(folder: Path, name: str = "PeAudioVideoModel", seed: int = 0) -> Path:
    """A PE-AV of these parts: ``PeAudioModel``, ``PeVideoModel`` or both. Those that see need timm."""
    import transformers

    torch.manual_seed(seed)
    text = {**_TEXT, "model_type": "modernbert", "cls_token_id": 1, "sep_token_id": 2}
    part = {**_SIZES, "head_dim": 16}
    dac = {"encoder_hidden_size": 8, "codebook_dim": 32, "downsampling_ratios": [2, 4, 8, 8]}
    audio = {**part, "dac_config": dac}
    vision = {"architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 64, "global_pool": "map"}
    vision["model_args"] = {"embed_dim": 64, "depth": 1, "num_heads": 2, "img_size": 64}
    video = {**part, "vision_config": vision}
    parts: dict[str, Any] = {
        "PeAudioModel": {"audio_config": audio},
        "PeVideoModel": {"video_config": video},
        "PeAudioVideoModel": {"audio_video_config": {**part, "audio_config": audio, "video_config": video}},
    }
    config = getattr(transformers, name.replace("Model", "Config"))(text_config=text, **parts[name])
    save(getattr(transformers, name)(config), folder)
    sounds = transformers.PeAudioFeatureExtractor(sampling_rate=16_000, hop_length=512)
    pictures = None
    if name != "PeAudioModel":
        pictures = transformers.PeVideoVideoProcessor(size={"height": 64, "width": 64}, do_resize=True)
    made = {
        "PeAudioModel": lambda: transformers.PeAudioProcessor(sounds, tokenizer()),
        "PeVideoModel": lambda: transformers.PeVideoProcessor(video_processor=pictures, tokenizer=tokenizer()),
        "PeAudioVideoModel": lambda: transformers.PeAudioVideoProcessor(sounds, pictures, tokenizer()),
    }
    made[name]().save_pretrained(folder)
    return folder


def save(model: Any, folder: Path) -> None:
    """Write a model for use."""
    model.eval().save_pretrained(folder)


def tiny_dinov2(folder: Path, seed: int = 0) -> Path:
    """A DINOv2 that sees 28 x 28 pixels."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    save(Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14)), folder)
    pixels = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=pixels).save_pretrained(folder)
    return folder


def tiny_whisper(folder: Path, seed: int = 0) -> Path:
    """A Whisper that hears two seconds."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(seed)
    layers = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    layers |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(
        d_model=16, num_mel_bins=16, vocab_size=64, max_source_positions=100, **layers, **marks, suppress_tokens=[]
    )
    save(WhisperModel(config), folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(folder)
    return folder
