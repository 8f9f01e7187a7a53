"""How a round learns from people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.core.config.sections._section import LANGUAGE_LAYERS, Section
from flywheel.core.types import MAX_SEED


class Finetune(Section):
    method: Literal["sft", "dpo", "sft+dpo"] = Field(
        "sft",
        description=(
            "`sft` learns people's texts; `dpo` pairs of texts of which people found one better; `sft+dpo` both in "
            "each step. Pairs come from `pairs_from`, of train clips alone"
        ),
    )
    num_steps: int = Field(60, ge=0, description="optimizer steps on corrections; 0 skips fine-tuning")
    batch_size: int = Field(8, ge=1, description="people's texts per step, or pairs; `sft+dpo` takes so many of each")
    save_every: int = Field(20, ge=1, description="steps between checkpoints to resume from")
    learning_rate: float = Field(2e-3, gt=0)
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="of `sft`; pairs are learned without")
    target_modules: str = Field(LANGUAGE_LAYERS, description="regular expression of the adapted layers")
    min_corrections: int = Field(
        4,
        ge=1,
        description="fewer texts of people than this, or pairs, and nothing is learned from them; with neither the "
        "round goes on without an adapter",
    )
    pairs_from: tuple[Literal["correction", "preference", "reject"], ...] = Field(
        ("correction", "preference", "reject"),
        min_length=1,
        description=(
            "what pairs are made of, for `dpo`: `correction` (people's text against the one that they were shown), "
            "`preference` (blind choices), `reject` (another text of the clip against one that people rejected)"
        ),
    )
    beta: float = Field(
        0.1, gt=0, description="of `dpo`: the smaller, the further the model may go from what it wrote before"
    )
    pair_weight: float = Field(
        1.0, gt=0, description="of `sft+dpo`: weight of the pairs' loss beside that of people's texts"
    )
    merge: bool = Field(False, description="also write merged weights beside the adapter")
    seed: int = Field(0, ge=0, le=MAX_SEED)
