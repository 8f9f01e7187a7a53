"""A model that is told when: times in a query become tokens, which meet pictures and sounds before a language model.

SAVEnVideo (arXiv 2411.16213) in the size of the bundled models: encoders and language model are frozen; learned are a
linear projection of times, an MLP each for pictures and sounds, an attention that makes a few states of all, and a
LoRA. What the paper's figures leave open is ours, and said where it stands.
"""

from __future__ import annotations

from flywheel.models.time_aware._lora import LoraLinear
from flywheel.models.time_aware._model import Sizes, TimeAware
from flywheel.models.time_aware._perceived import Encoders, Perceived
from flywheel.models.time_aware._resampler import Resampler
from flywheel.models.time_aware._times import spans_of, time_features

__all__ = ["Encoders", "LoraLinear", "Perceived", "Resampler", "Sizes", "TimeAware", "spans_of", "time_features"]
