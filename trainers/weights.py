"""In which numbers a model is trained: fp32 weights, or bf16 ones that are rounded at random where memory is short.

Plain AdamW on bf16 weights is refused: at real learning rates it hardly changes them (decision 21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from flywheel.core.errors import UserError
from trainers import memory

#: Bytes that a trained weight takes by part; the copies are those that autocast makes of fp32 weights.
PARTS: dict[str, dict[str, float]] = {
    "adamw": {"weights": 4, "gradients": 4, "moments": 8, "copies": 0},
    "adamw_masters": {"weights": 4, "gradients": 4, "moments": 8, "copies": 2},
    "adamw_sr": {"weights": 2, "gradients": 2, "moments": 4, "copies": 0},
    # Two codes, and two scales of fp32 for each block of 256.
    "adamw_8bit": {"weights": 2, "gradients": 2, "moments": 2 + 8 / 256, "copies": 0},
}
#: Those that train bf16 weights, rounded at random, in the order in which ``auto`` takes them.
ROUNDED = ("adamw_sr", "adamw_8bit")
#: Share of the memory that these may take. The rest is for activations, which this estimate does not know.
_MOST = 0.8
#: The same of bf16 weights and moments, before moments lose half of their bits.
_MOST_ROUNDED = 0.9


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An optimizer by its name in the configuration, and why it is this one."""

    optimizer: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of the trained weights."""
        return torch.bfloat16 if self.optimizer in ROUNDED else torch.float32


def check(optimizer: str, precision: str) -> None:
    """Check that an optimizer and a precision (``bf16``, ``fp32``) go together. Raises UserError."""
    if optimizer == "adamw" and precision == "bf16":
        raise _lost_updates("pretrain.optimizer: adamw with models.main.precision bf16")
    if optimizer in ROUNDED and precision == "fp32":
        raise UserError(
            f"pretrain.optimizer: {optimizer} trains bf16 weights, and models.main.precision is fp32. "
            "Set the precision to bf16, or the optimizer to auto."
        )


def check_trained(model: Any, optimizer: str) -> None:
    """Check that the weights of a model are such as the optimizer can train. Raises UserError for bf16 and AdamW."""
    if optimizer not in ROUNDED and any(p.requires_grad and p.dtype == torch.bfloat16 for p in model.parameters()):
        raise _lost_updates("training: plain AdamW on bf16 weights")


def _lost_updates(what: str) -> UserError:
    return UserError(
        f"{what}: refused. Most updates are smaller than half a step between bf16 numbers and would be rounded away, "
        "so the model would hardly learn. Set pretrain.optimizer to auto, adamw_masters (fp32 weights) or adamw_sr "
        "(bf16 weights, rounded at random)."
    )


def choose(
    optimizer: str, precision: str, model: Any, available: int | None = None, *, sharded: bool = False
) -> Choice:
    """The optimizer for a model whose parameters to train are marked; ``auto`` goes by the device's memory.

    ``available`` are that memory's bytes, those of the model's device if left out. ``sharded`` is over ranks, by ZeRO.
    ``precision`` is ``bf16`` or ``fp32``. Raises UserError for two that do not go together.
    """
    check(optimizer, precision)
    if sharded:
        return _of_shards(optimizer, precision)
    if optimizer != "auto":
        return Choice(optimizer=optimizer, reason="as configured")
    if precision == "fp32":
        return Choice(optimizer="adamw", reason="the precision is fp32")
    if available is None:
        available = memory.total_bytes(next(model.parameters()).device)
    needed = needed_bytes(model, "adamw_masters")
    told = f"fp32 weights and moments take {needed / 2**30:.1f} of {available / 2**30:.1f} GiB"
    if needed <= _MOST * available:
        return Choice(optimizer="adamw_masters", reason=told)
    needed = needed_bytes(model, "adamw_sr")
    if needed <= _MOST_ROUNDED * available:
        return Choice(optimizer="adamw_sr", reason=told)
    return Choice(optimizer="adamw_8bit", reason=f"{told}, bf16 ones {needed / 2**30:.1f}")


def _of_shards(optimizer: str, precision: str) -> Choice:
    if optimizer in ROUNDED:
        raise UserError(
            f"pretrain.optimizer: {optimizer} is for whole weights, and train.strategy shards fp32 masters of them. "
            "Set the optimizer to auto or adamw_masters, or the strategy to ddp."
        )
    if precision == "fp32":
        return Choice(optimizer="adamw", reason="the precision is fp32")
    return Choice(optimizer="adamw_masters", reason="ZeRO shards fp32 masters and moments over the devices")


def needed_bytes(model: Any, optimizer: str) -> int:
    """Bytes of weights, gradients and moments in training; activations come on top."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    return int(trained * sum(PARTS[optimizer].values()) + frozen * (2 if optimizer in ROUNDED else 4))


def convert(model: Any, dtype: torch.dtype) -> None:
    """Give a model's parameters this type. Its buffers stay: rotary frequencies need fp32."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
