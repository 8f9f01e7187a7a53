"""DeepSpeed's part: what ZeRO shards, its configuration, and whole weights out of sharded ones (Rajbhandari 2020)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Said on stdout, where results belong, as soon as DeepSpeed is imported on a machine without a GPU: by any training.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a training is spread over ranks: by ``single``, ``ddp``, ``zero1``, ``zero2`` or ``zero3``.

    ``parts`` are those that each rank takes its share of a step in. ``offload`` keeps what ZeRO shards in the machine's
    memory.
    """

    name: str = "single"
    parts: int = 1
    offload: bool = False

    @property
    def sharded(self) -> bool:
        """Whether DeepSpeed shards what is trained."""
        return self.name in STAGES

    def deepspeed(self) -> dict[str, Any] | None:
        """DeepSpeed's configuration; None where it has no part."""
        return deepspeed_config(self.name, offload=self.offload) if self.sharded else None

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Within this context a model's weights are sharded as they are loaded, where they are to be."""
        if self.name != "zero3":
            yield
            return
        from transformers.integrations import HfDeepSpeedConfig

        whole = deepspeed_config("zero3", offload=self.offload)["zero_optimization"]
        # What hangs on the model's size is filled in when it is there.
        zero = {name: value for name, value in whole.items() if value != "auto"}
        kept = HfDeepSpeedConfig({"zero_optimization": zero, "train_micro_batch_size_per_gpu": 1})
        try:
            yield
        finally:
            forget_sharding()
            del kept


#: One process, in one part.
ALONE = Strategy()


def forget_sharding() -> None:
    """Let models be loaded whole again."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


#: Gradients that are sent at a time, in elements.
BUCKET = 200_000_000
#: Strategy -> the stage of ZeRO: 1 shards moments and masters, 2 gradients too, 3 weights too.
STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def deepspeed_config(strategy: str, *, offload: bool) -> dict[str, Any]:
    """DeepSpeed's configuration for ``zero1``, ``zero2`` or ``zero3``; ``auto`` in it is filled in by transformers.

    ``offload`` keeps moments and masters in the machine's memory, and with ``zero3`` the weights.
    """
    stage = STAGES[strategy]
    there = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": BUCKET}
    if stage == 3:
        zero |= {"stage3_param_persistence_threshold": "auto", "stage3_prefetch_bucket_size": "auto"}
        zero |= {"offload_param": there} if offload else {}
    if offload:
        zero["offload_optimizer"] = there
    return {
        "zero_optimization": zero,
        # torch's own AdamW, which is fast on the CPU too: DeepSpeed's would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "steps_per_print": 1 << 30,
    }


def is_zero3(config: Mapping[str, Any]) -> bool:
    """Whether DeepSpeed shards the weights themselves."""
    return bool(config["zero_optimization"]["stage"] == STAGES["zero3"])


def accelerator_config() -> dict[str, Any] | None:
    """What tells transformers of the ranks of a sharded training where there is no accelerator; else None.

    By itself it would see one process in each of them.
    """
    if torch.cuda.is_available():
        return None
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    before = os.environ.get("ACCELERATE_USE_DEEPSPEED")
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    try:
        PartialState(backend="gloo")
    finally:
        os.environ.pop("ACCELERATE_USE_DEEPSPEED")
        if before is not None:
            os.environ["ACCELERATE_USE_DEEPSPEED"] = before
    return {"use_configured_state": True}


def trained_weights(model: Any, *, keep: bool) -> dict[str, Tensor]:
    """The trained weights by name, whole, in fp32 and on the CPU; none without ``keep``. Every rank must ask."""
    from deepspeed.utils import safe_get_full_fp32_param

    out = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # One at a time: together they may not fit.
            value = safe_get_full_fp32_param(parameter)
            if keep:
                out[name] = value.detach().float().cpu().clone()
    return out


def filled(model: Any, values: Mapping[str, Tensor]) -> Any:
    """The model with these values for its trained weights."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = values[name].to(parameter.device)
    return model
