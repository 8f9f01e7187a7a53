"""A tiny random model that sees and hears: Qwen2.5-Omni's thinker with the bundled tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch

from flywheel.playground.tiny import bundled_model

_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}"
    "{% if p.type == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif p.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_omni(folder: Path, *, published: bool = False) -> Path:
    """Write the model and its processor; ``published`` as folders on hubs are: the thinker within a model that speaks.

    With a file of speakers beside it, which is a pickle that nobody may read.
    """
    from transformers import (
        AutoTokenizer,
        Qwen2_5OmniConfig,
        Qwen2_5OmniForConditionalGeneration,
        Qwen2_5OmniProcessor,
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        WhisperFeatureExtractor,
    )

    plain = AutoTokenizer.from_pretrained(bundled_model())
    tokenizer = type(plain).from_pretrained(bundled_model(), extra_special_tokens=_TOKENS)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _TOKENS.items()}
    size = {"shortest_edge": 56 * 56, "longest_edge": 56 * 56}
    processor = Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=14, merge_size=2, temporal_patch_size=2),
        video_processor=Qwen2VLVideoProcessor(
            size=size, patch_size=14, do_sample_frames=False, cap_pixels_per_frame=False
        ),
        feature_extractor=WhisperFeatureExtractor(feature_size=32, chunk_length=4),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 32,
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "output_dim": 64,
            "n_window": 50,
            "max_source_positions": 1500,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0],
            "window_size": 56,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
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
    )
    torch.manual_seed(0)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    with torch.no_grad():
        # With the default 0.02 neither eyes nor ears would move the words by more than rounding.
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.2)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if published:
        whole = Qwen2_5OmniForConditionalGeneration(
            Qwen2_5OmniConfig(thinker_config=config.to_dict(), enable_audio_output=False)
        )
        whole.thinker.load_state_dict(model.state_dict())
        whole.generation_config = model.generation_config
        whole.save_pretrained(folder, safe_serialization=True)
        (folder / "spk_dict.pt").write_bytes(b"not to be read")
    else:
        model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
    return folder
