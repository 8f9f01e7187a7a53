"""The tiny ears: Qwen2.5-Omni's own thinker, processor and chat template at about two million parameters.

Exactly the code that loads a published Qwen2.5-Omni loads this folder; nothing here is imported when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.playground.tiny import tiny_tokenizer

#: Longest sound that the ears take, seconds.
LONGEST_S = 8
_MELS, _SIDE = 64, 64
_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *_TOKENS.values())
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<|vision_bos|><|VIDEO|><|vision_eos|>' }}"
    "{% elif part['type'] == 'audio' %}{{ '<|audio_bos|><|AUDIO|><|audio_eos|>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tiny_ears(folder: Path, tokenizer_texts: list[str], *, vocab_size: int = 800, seed: int = 0) -> None:
    """Write a randomly initialised tiny Qwen2.5-Omni without a voice, its tokenizer and processor, into ``folder``."""
    import torch
    from transformers import (
        Qwen2_5OmniConfig,
        Qwen2_5OmniForConditionalGeneration,
        Qwen2_5OmniProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = tiny_tokenizer(tokenizer_texts, vocab_size, _SPECIAL, chat_template=CHAT_TEMPLATE, extra=_TOKENS)
    torch.manual_seed(seed)
    config = Qwen2_5OmniConfig(thinker_config=_config(tokenizer).to_dict(), enable_audio_output=False)
    model = Qwen2_5OmniForConditionalGeneration(config)
    with torch.no_grad():
        # With the default 0.02 a model this small ignores its ears for thousands of steps.
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name:
                parameter.mul_(3.0)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.thinker.generation_config = model.generation_config
    size = {"shortest_edge": _SIDE * _SIDE, "longest_edge": _SIDE * _SIDE}
    processor = Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=16, merge_size=2, temporal_patch_size=2),
        video_processor=Qwen2VLVideoProcessor(
            size=size, patch_size=16, do_sample_frames=False, cap_pixels_per_frame=False
        ),
        feature_extractor=feature_extractor(),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)


def feature_extractor() -> Any:
    """The extractor of the ears' mel spectrograms."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=_MELS, chunk_length=LONGEST_S)


def _config(tokenizer: Any) -> Any:
    from transformers import Qwen2_5OmniThinkerConfig

    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _TOKENS.items()}
    return Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": _MELS,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "d_model": 128,
            "n_window": 100,
            "max_source_positions": 1500,
            "output_dim": 128,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 64,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            # vLLM reads it here, transformers one level up.
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 4, 4]},
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        audio_token_index=ids["audio_token"],
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
        user_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
    )
