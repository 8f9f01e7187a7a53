"""The tiny VLM: Qwen3-VL's own architecture, processor and chat template at about two million parameters.

Exactly the code that loads a published Qwen3-VL loads this folder; nothing here is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

FRAMES = 8
_PIXELS = 128 * 64  # what the processor scales a frame to

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    # Only an assistant's words are what a loss may see, so the marks stand around those alone.
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{% elif part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


#: Names that a configuration has for the models that ship in this package -> their folders here.
BUNDLED = {
    "bundled": "base_vlm",
    "bundled-eyes": "tiny_eyes",
    "bundled-ears": "tiny_ears",
    "bundled-judge": "tiny_judge",
}


def bundled_model(name: str = "bundled") -> Path:
    """The folder of a model that ships in this package; of the demo's where no name is given."""
    return Path(str(resources.files("flywheel.playground") / BUNDLED[name]))


def tiny_tokenizer(
    texts: list[str],
    vocab_size: int,
    special: Sequence[str],
    *,
    chat_template: str,
    extra: Mapping[str, str] | None = None,
    max_length: int = 2048,
) -> Any:
    """A byte-level BPE tokenizer of these texts, with the end and pad marks of Qwen's models.

    The first of ``special`` pads; ``extra`` are marks by the names under which a processor looks for them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token=special[0],
        additional_special_tokens=list(special[1:]),
        chat_template=chat_template,
        model_max_length=max_length,
        **({"extra_special_tokens": dict(extra)} if extra else {}),
    )


def write_tiny_vlm(
    folder: Path, tokenizer_texts: list[str], *, vocab_size: int = 1200, frames: int = FRAMES, seed: int = 0
) -> None:
    """Write a randomly initialised tiny Qwen3-VL with its tokenizer and processor (safetensors) into ``folder``.

    Its processor scales a video of ``frames`` frames to 128 x 64 pixels each.
    """
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = tiny_tokenizer(tokenizer_texts, vocab_size, _SPECIAL, chat_template=CHAT_TEMPLATE, max_length=1024)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [8, 4, 4],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 128,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        # With the default 0.02 a model this small ignores its eyes for thousands of steps.
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name:
                parameter.mul_(3.0)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    size = {"shortest_edge": frames * _PIXELS, "longest_edge": frames * _PIXELS}
    image_size = {"shortest_edge": _PIXELS, "longest_edge": _PIXELS}
    processor = Qwen3VLProcessor(
        # As published Qwen3-VLs have it; vLLM normalizes videos too by these, so they must be the video processor's.
        image_processor=Qwen2VLImageProcessor(
            size=image_size,
            patch_size=16,
            merge_size=2,
            temporal_patch_size=2,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=size, do_sample_frames=False, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
