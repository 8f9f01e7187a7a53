"""Doubt: the texts that the model believed in least."""

from __future__ import annotations

import numpy as np

from human_refine.signals import TextBatch, Values, lasting


@lasting
def doubt(batch: TextBatch) -> Values:
    """Minus the mean log-prob of each text, in nats: the less the model believed in its own words, the higher."""
    return -batch.rows["mean_logprob"].to_numpy().astype(np.float64)
