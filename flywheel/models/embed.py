"""Clips as points: what a model makes of them before it writes, for telling which are like which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import Vlm

#: Most numbers that a clip's point has: wider ones are projected, which keeps distances (Johnson & Lindenstrauss 1984)
#: to some tenth at 256.
WIDTH = 256


def clip_embeddings(
    vlm: Vlm, builder: InputBuilder, clips: Sequence[ClipInput], prompt: str, *, batch_size: int = 16
) -> NDArray[np.float32]:
    """Unit vectors (n, at most :data:`WIDTH`):
    the mean over all tokens of the last hidden layer, for each clip with the same prompt."""
    import torch

    rows = []
    for start in range(0, len(clips), batch_size):
        part = clips[start : start + batch_size]
        batch = {k: v.to(vlm.device) for k, v in builder.build(part, [prompt] * len(part)).items()}
        with torch.inference_mode():
            # The inner model: logits over a vocabulary for every token would be many times the size.
            hidden = vlm.model.base_model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        rows.append(((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy())
    points = np.concatenate(rows).astype(np.float64) if rows else np.zeros((0, WIDTH))
    if points.shape[1] > WIDTH:
        points = points @ np.random.default_rng(0).normal(size=(points.shape[1], WIDTH))
    unit: NDArray[np.float32] = (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return unit
