"""The plain step that others are measured against: forward and backward, the loss in the output layer."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch


class Step:
    """A model's forward and backward pass over a batch by maximum likelihood; returns the mean loss."""

    def __init__(self, model: Any) -> None:
        from noise_control import losses
        from trainers.head import OutputHead

        self._model, self._head, self._loss = model, OutputHead(model), losses.build("mle")
        self._device = next(model.parameters()).device

    def __call__(self, batch: dict[str, Any]) -> float:
        from noise_control import linear_loss

        inputs = {name: value.to(self._device, non_blocking=True) for name, value in batch.items()}
        targets_BS = inputs.pop("labels")[:, 1:]
        row_N, column_N = (targets_BS != -100).nonzero(as_tuple=True)
        target_N = targets_BS[row_N, column_N]

        def instead(hidden_BSD: Any, weight_VD: Any, bias: Any) -> Any:
            return linear_loss(hidden_BSD[row_N, column_N], weight_VD, target_N, self._loss, bias, reduction="sum")

        with self._head.replaced(instead):
            loss = self._model(**inputs).logits / len(target_N)
        loss.backward()
        return float(loss.detach())

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def free(device: str) -> None:
    """Give back a GPU's memory that nothing holds, and begin to watch for its peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
