"""Adapters: small trained weights beside a model's own, and those merged into it."""

from __future__ import annotations

from typing import Any

import torch

from trainers.rounding import round_into, seeded, uniform_bits


def with_adapter(model: Any, *, rank: int, alpha: int, dropout: float, target_modules: str) -> Any:
    """The model with a new LoRA (Hu et al. 2021) on the layers that match; only it is trained, in fp32."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules)
    return get_peft_model(model, lora)


def merged(model: Any, seed: int) -> Any:
    """The model alone, with its adapter's change added to its weights; bf16 sums are rounded at random.

    Rounded to nearest, a change smaller than half a bf16 step of its weight would be lost, and with it the training.
    """
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if isinstance(module, Linear)]
    for index, layer in enumerate(layers):
        weight = layer.get_base_layer().weight
        with torch.no_grad():
            value = weight.float() + layer.get_delta_weight("default").float()
            if weight.dtype == torch.bfloat16:
                round_into(weight, value, uniform_bits(weight, seeded(weight.device, seed, index)))
            else:
                weight.copy_(value)
    return model.unload()
