"""What each of several devices holds of a training, by how they share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.sharding import BUCKET, STAGES

#: Weights that ZeRO-3 keeps gathered at a time, at most (DeepSpeed's stage3_max_live_parameters).
_LIVE = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A training's ``strategy`` on ``devices`` devices; ``offload`` moves what is sharded to the machine's memory."""

    strategy: str
    devices: int
    offload: bool

    def of(self, parts: Mapping[str, float], model: Any) -> tuple[dict[str, float], dict[str, float]]:
        """Bytes by part that a device holds, and those that the machine does, from what one device would hold alone.

        ``model`` is without storage, in the type that it computes in, with what is trained marked.
        """
        if self.strategy == "single":
            return dict(parts), {}
        if self.strategy == "ddp":
            # Gradients are sent from buckets that hold them once more.
            return {**parts, "buckets": parts["gradients"]}, {}
        return self._sharded(parts, model)

    def _sharded(self, parts: Mapping[str, float], model: Any) -> tuple[dict[str, float], dict[str, float]]:
        size, stage = model.dtype.itemsize, STAGES[self.strategy]
        count = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        # The model is in the type that it computes in; masters are fp32, whatever that is, and two moments of each.
        weights, gradients, states = float(size * count), float(size * trained), 12.0 * trained
        kept = {name: parts[name] for name in ("activations", "loss", "pixels") if name in parts}
        bucket = float(2 * size * min(trained, BUCKET))
        device = {
            "weights": weights / (self.devices if stage == 3 else 1),
            "gradients": gradients / (self.devices if stage >= 2 else 1),
            "masters and moments": states / self.devices,
            "buckets": bucket,
            **({"gathered weights": float(size * min(count, _LIVE))} if stage == 3 and self.devices > 1 else {}),
            **kept,
        }
        # At its end the first rank has all trained weights, to write them.
        host = {"whole weights": 4.0 * trained + size * count}
        if self.offload:
            moved = ["masters and moments", *(["weights"] if stage == 3 else [])]
            host |= {name: device.pop(name) * self.devices for name in moved}
        return device, host
