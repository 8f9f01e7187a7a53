"""How a round learns from machine texts, and by which loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from flywheel.core.config.sections._section import LANGUAGE_LAYERS, Section
from flywheel.core.types import MAX_SEED


class Pretrain(Section):
    start: Literal["base", "previous"] = Field(
        "base", description="weights to start from; `previous` inherits the last round's errors"
    )
    texts: Literal["best", "newest"] = Field(
        "best",
        description=(
            "which text of a clip to learn: "
            "of the rounds so far the one whose text anchors find best, or always the newest"
        ),
    )
    mix: Literal["accumulate", "replace"] = Field(
        "accumulate",
        description=(
            "whether older texts of a clip stay beside that one; a wheel that only ever learns its newest narrows"
        ),
    )
    older_share: float = Field(
        0.25, ge=0, lt=1, description="how often `accumulate` shows one of a clip's older texts instead"
    )
    older_rounds: int = Field(
        4,
        ge=1,
        description="most older sources in that mix: the newest ones, and what came with the videos; each takes memory",
    )
    kinds: dict[str, float] = Field(
        {"caption": 1.0},
        description=(
            "kinds of text that are learned, and how often an epoch shows a clip's texts of each beside the others: "
            "caption, and others whose texts answer questions (qa)"
        ),
    )
    human_weight: float = Field(
        4.0, gt=0, description="weight of a text that a person gave against one that a machine wrote"
    )
    num_steps: int = Field(200, ge=0, description="optimizer steps; 0 skips pretraining")
    batch_size: int = Field(16, ge=1, description="clips per step, over all devices")
    learning_rate: float = Field(1e-3, gt=0, description="peak, after warm-up; cosine to a tenth")
    warmup_share: float = Field(0.05, ge=0, le=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.01, ge=0)
    transcript_dropout: float = Field(
        0.5, ge=0, le=1, description="how often the transcript is held back from the input"
    )
    previous_dropout: float = Field(
        0.5, ge=0, le=1, description="how often the previous text is held back from the input"
    )
    optimizer: Literal["auto", "adamw", "adamw_masters", "adamw_sr", "adamw_8bit"] = Field(
        "auto",
        description=(
            "`adamw`: weights as models.main.precision has them, which must be fp32; `adamw_masters`: fp32 weights, "
            "products in that precision; `adamw_sr`: bf16 weights and moments, rounded stochastically; "
            "`adamw_8bit`: moments of 8 bits instead; `auto`: `adamw` in fp32, else the first of `adamw_masters`, "
            "`adamw_sr` and `adamw_8bit` that fits in the device's memory"
        ),
    )
    method: Literal["full", "lora"] = Field(
        "full", description="train all weights, or a LoRA that is merged into them, for models that do not fit"
    )
    lora_rank: int = Field(64, ge=1, description="of `method: lora`")
    lora_alpha: int = Field(128, ge=1, description="of `method: lora`")
    target_modules: str = Field(LANGUAGE_LAYERS, description="regular expression of the layers that a LoRA adapts")
    freeze_vision: bool = Field(True, description="keep the vision tower as it is")
    gradient_checkpointing: bool = Field(False, description="less memory, more time")
    decoders: int = Field(
        2, ge=0, le=256, description="threads that prepare batches ahead of the step; 0 prepares them between steps"
    )
    save_every: int = Field(100, ge=1, description="steps between checkpoints to resume from")
    log_every: int = Field(25, ge=1, description="steps between the figures that the tracker gets")
    eval_share: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description=(
            "share of the training texts held out for the eval loss and to measure noise on; of a small corpus more "
            "(64, within 15 %), never over 512; 0 holds out none"
        ),
    )
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @field_validator("kinds")
    @classmethod
    def _captions_and_shares(cls, kinds: dict[str, float]) -> dict[str, float]:
        if "caption" not in kinds:
            raise ValueError("caption must be among them: rounds are measured by captions")
        if wrong := [name for name, share in kinds.items() if not 0 < share < float("inf")]:
            raise ValueError(f"{wrong[0]}: must be a number over 0; leave out what is not to be learned")
        return kinds

    @model_validator(mode="after")
    def _adapters_are_fp32(self) -> Pretrain:
        if self.method == "lora" and self.optimizer in ("adamw_masters", "adamw_sr", "adamw_8bit"):
            raise ValueError("optimizer is for method full; an adapter's few weights are fp32. Leave it at auto")
        return self


class Loss(Section):
    name: str = Field("adatailr", description="registered loss of pretraining: `flywheel config losses` lists them")
    arguments: dict[str, float | int | str | bool] = Field(default_factory=dict, description="arguments of the loss")
    human_every: int = Field(
        25, ge=1, description="steps between looks at the anchors' corrected texts and the held-out ones"
    )
