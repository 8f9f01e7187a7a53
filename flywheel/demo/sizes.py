"""How large a demo is: its corpus, its rounds, what people do, and the settings that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Size:
    """A demo's measures.

    ``correction_share`` is the share of all clips that people may correct in a round, ``anchor_part`` the share of
    these that goes to anchor clips. ``settings`` are the configuration's values by section. ``ceiling``: the base is
    also trained once on the true captions. ``quick`` marks the folder: it is not gone on with as a full one.
    """

    num_clips: int
    num_rounds: int
    correction_share: float = 0.05
    anchor_part: float = 0.4
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ceiling: bool = False
    quick: bool = False


FULL = Size(num_clips=800, num_rounds=3, settings={"evaluate": {"diversity_tokens": 200}}, ceiling=True)

# Half of the corrections are of anchors: with fewer than eight, nobody can tell that the transcripts are better to
# learn from than what the base wrote, nor the gate that a round is better.
QUICK = Size(
    num_clips=200,
    num_rounds=2,
    correction_share=0.12,
    anchor_part=0.5,
    quick=True,
    settings={
        "pretrain": {"num_steps": 75, "save_every": 25, "learning_rate": 0.002},
        "finetune": {"num_steps": 30},
        "loss": {"human_every": 15},
        "evaluate": {"diversity_tokens": 100, "resamples": 1000, "agreement_pairs": 8},
    },
)
