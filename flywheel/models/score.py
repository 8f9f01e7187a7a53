"""Log-likelihood of given texts under a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.models.inputs import IGNORED, ClipInput, InputBuilder
from flywheel.models.load import Vlm


def mean_logprobs(
    vlm: Vlm,
    builder: InputBuilder,
    clips: Sequence[ClipInput | None],
    prompts: Sequence[str],
    texts: Sequence[str],
    *,
    batch_size: int = 32,
) -> NDArray[np.float64]:
    """Mean log-probability per token (nats, end mark included) of each text given its clip and prompt; shape (n,)."""
    import torch

    means: list[float] = []
    for start in range(0, len(texts), batch_size):
        part = slice(start, start + batch_size)
        batch = builder.build(clips[part], prompts[part], texts[part])
        labels = batch.pop("labels").to(vlm.device)[:, 1:]
        with torch.inference_mode():
            logits = vlm.model(**{k: v.to(vlm.device) for k, v in batch.items()}).logits[:, :-1].float()
        picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        mask = labels != IGNORED
        means.extend(((picked * mask).sum(1) / mask.sum(1)).tolist())
    return np.asarray(means, dtype=np.float64)
