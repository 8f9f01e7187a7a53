"""How many devices a training has, and how they share it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.config import Config
from flywheel.core.errors import UserError

if TYPE_CHECKING:
    from trainers import Strategy


def count_of(config: Config) -> int:
    """The devices of a training. Raises UserError for more than there are, and for a number that nobody knows."""
    import torch

    train, here = config.train, torch.cuda.device_count()
    if train.launch:
        if train.devices == "auto":
            raise UserError("train.devices: auto, with train.launch. Set it to the number over all machines.")
        return train.devices
    if train.strategy == "single" or train.devices == 1:
        return 1
    if train.devices == "auto":
        return max(1, here)
    if here and train.devices > here:
        raise UserError(f"train.devices: {train.devices}, and this machine shows {here}. Set it to auto, or to {here}.")
    return train.devices


def devices_of(config: Config, root: Path) -> tuple[int, Strategy]:
    """How many devices train, and how they share it. Raises UserError where that can't be."""
    from trainers import Strategy

    count, train = count_of(config), config.train
    name: str = train.strategy
    if name == "auto":
        name = "single" if count == 1 and not train.launch else _first_that_fits(config, root)
    elif name == "ddp" and count == 1 and not train.launch:
        # With nobody to share with it is the same.
        name = "single"
    if name.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"train.strategy: {train.strategy} asks for DeepSpeed ({name}), which is not installed. "
            "pip install 'video-dataflywheel[deepspeed]', or set the strategy to ddp."
        )
    return count, Strategy(name=name, parts=train.accumulation, offload=train.offload and name.startswith("zero"))


def _first_that_fits(config: Config, root: Path) -> str:
    from flywheel.rounds.memory_plan import planned

    plan = planned(config, root)
    return plan.strategy if plan is not None else "ddp"


def check_devices(config: Config, root: Path) -> None:
    """Check before a night of annotation what a training's devices need. Raises UserError."""
    _check_bf16(config)
    train = config.train
    if train.devices in ("auto", 1) and train.strategy in ("auto", "single", "ddp") and not train.launch:
        import torch

        if torch.cuda.device_count() <= 1:
            return
    _, strategy = devices_of(config, root)
    if strategy.name.startswith("zero") and "dpo" in config.finetune.method and config.finetune.num_steps:
        raise UserError(
            f"finetune.method: {config.finetune.method} is not shown to learn with train.strategy {strategy.name} what "
            "one device learns. Set the strategy to ddp, or the method to sft."
        )
    optimizer = config.pretrain.optimizer
    if strategy.sharded and config.pretrain.method == "full" and optimizer in ("adamw_sr", "adamw_8bit"):
        raise UserError(
            f"pretrain.optimizer: {optimizer} is for whole weights, and train.strategy {strategy.name} shards fp32 "
            "masters of them. Set the optimizer to auto or adamw_masters, or the strategy to ddp."
        )


def _check_bf16(config: Config) -> None:
    """Raises UserError where bf16 is asked for and the GPU has none."""
    import torch

    from flywheel.models.load import has_bf16

    if config.main.precision == "bf16" and torch.cuda.is_available() and not has_bf16():
        name = torch.cuda.get_device_name(0)
        raise UserError(f"models.main.precision: bf16, which {name} does not compute in. Set it to auto or fp32.")
