"""Batches of one form on all ranks: under ZeRO-3 a rank without videos must go through the vision tower too.

There a layer's weights are gathered from all ranks when it is called; a rank that does not call it leaves the others
waiting for good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flywheel.models.inputs import IGNORED, SOUND_RATE_HZ, ClipInput, InputBuilder
from trainers.ranks import gathered_objects, num_ranks

#: Tensors of a batch that every batch has; the others are a medium's.
_ALWAYS = frozenset(
    {"input_ids", "attention_mask", "mm_token_type_ids", "labels", "row", "group", "row_weight", "part"}
)
#: What fills a row up to the longest one's length.
_FILL = {"labels": IGNORED}


class Forms:
    """Gives batches the media that other ranks' batches have, with a row of which nothing is learned."""

    def __init__(self, builder: InputBuilder, prompt: str, *, needed: bool) -> None:
        """``needed`` says whether ranks wait for each other in every layer; else batches stay as they are."""
        self._builder, self._prompt, self._needed = builder, prompt, needed
        self._blank: dict[frozenset[str], dict[str, Any]] = {}

    def same(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with every medium that any rank's has. Every rank must ask."""
        if not self._needed or num_ranks() == 1:
            return batch
        own = frozenset(batch) - _ALWAYS
        everyone = frozenset().union(*gathered_objects(own))
        return batch if own == everyone else _with_row(batch, self._of(everyone - own))

    def _of(self, media: frozenset[str]) -> dict[str, Any]:
        """A batch of one blank row with these media's tensors."""
        if media not in self._blank:
            found = [batch for batch in self._blanks() if frozenset(batch) - _ALWAYS == media]
            if not found:
                raise ValueError(f"training: ranks have batches of unlike media, and {sorted(media)} are of none known")
            self._blank[media] = found[0]
        return self._blank[media]

    def _blanks(self) -> list[dict[str, Any]]:
        builder, out = self._builder.of_thread(), []
        for frames, sound in ((True, False), (False, True), (True, True)):
            clip = ClipInput(
                key=f"blank {frames} {sound}",
                duration_s=1.0,
                fps=2.0,
                frames_THWC=np.zeros((2, 32, 32, 3), dtype=np.uint8) if frames else None,
                times_s=(0.0, 0.5) if frames else (),
                sound=np.zeros(SOUND_RATE_HZ, dtype=np.float32) if sound else None,
            )
            try:
                out.append(builder.build([clip], [self._prompt], [""]))
            except (TypeError, ValueError, AttributeError):
                # A processor that takes no sound, or no frames.
                continue
        return out


def _with_row(batch: dict[str, Any], blank: dict[str, Any]) -> dict[str, Any]:
    """The batch with the blank row behind its own; no token of it counts."""
    device, out = batch["input_ids"].device, dict(batch)
    for name, value in blank.items():
        row = torch.full_like(value, IGNORED) if name == "labels" else value
        out[name] = _joined(batch[name], row.to(device), _FILL.get(name, 0)) if name in batch else row.to(device)
    for name in ("row", "group", "row_weight", "part"):
        if name in batch:
            out[name] = torch.cat([batch[name], batch[name].new_full((1,), -1)])
    return out


def _joined(rows: Tensor, more: Tensor, fill: int) -> Tensor:
    """Rows of both, (B, S), filled up at their ends to the longer ones' length."""
    length = max(rows.shape[1], more.shape[1])
    parts = [torch.nn.functional.pad(part, (0, length - part.shape[1]), value=fill) for part in (rows, more)]
    return torch.cat([parts[0], parts[1].to(rows.dtype)])
