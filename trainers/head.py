"""The model's output layer, made to give the loss instead of logits: those of a large vocabulary take most memory.

The loss is computed inside the layer's own forward call. So whatever wraps layers (DDP, DeepSpeed ZeRO-3 that gathers
its weight, Accelerate, gradient checkpointing below it) sees an ordinary call.

Shape suffixes: B clips, S tokens, V vocabulary, D hidden, N tokens that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

#: (hidden_BSD, weight_VD, bias_V) to whatever the model shall return as its logits.
Instead = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class OutputHead:
    """A model's output layer, whose product :meth:`replaced` replaces by another function.

    ``replaceable`` says whether it can: the layer is a plain linear one, and nothing changes its logits after it.
    """

    def __init__(self, model: Any) -> None:
        self._layer = model.get_output_embeddings()
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        # A layer that PEFT or another library wrapped computes more than a product. A soft cap comes after the layer:
        # the model would cap our loss.
        self.replaceable = (
            type(self._layer) is torch.nn.Linear and getattr(config, "final_logit_softcapping", None) is None
        )

    @contextmanager
    def replaced(self, instead: Instead) -> Iterator[None]:
        """Within this context, a forward pass of the model gives ``instead``'s result as ``logits``."""
        layer = self._layer
        before = layer.__dict__.get("forward")

        def forward(hidden_BSD: Float[Tensor, "B S D"]) -> Tensor:
            return instead(hidden_BSD, layer.weight, layer.bias)

        layer.forward = forward
        try:
            yield
        finally:
            if before is None:
                del layer.forward
            else:
                layer.forward = before
