"""Which clips are kept, and on what evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flywheel.core.config.sections._section import Section
from flywheel.core.types import MAX_SEED


class Curate(Section):
    enabled: bool = Field(
        False, description="begin each round with the stage `curate`: train clips are kept or dropped"
    )
    policy: Literal["lose", "least", "quantile", "hours"] = Field(
        "lose",
        description="what stays: `lose` drops what it can while it loses at most a share of good clips; `least` keeps "
        "what has a value or more in column `by`, `quantile` the best share, `hours` the best hours of train clips",
    )
    value: float = Field(
        0.02, ge=0, description="of `policy`: a share for `lose` and `quantile`, hours, or the least value"
    )
    by: str = Field("p_match", description="column that ranks clips: `p_match`, or any other that is measured")
    limits: dict[str, tuple[float | None, float | None]] = Field(
        default_factory=dict,
        description="lowest and highest value by column (null: none); outside a clip goes, whatever its score. "
        "For instance `silent: [null, 0.8]`",
    )
    balance: bool = Field(False, description="keep the same share of each video, for `quantile` and `hours`")
    unscored: Literal["keep", "drop"] = Field("keep", description="what becomes of clips of which nothing can be told")
    control: bool = Field(
        False, description="keep a random choice of as many hours instead: what the policy's gain is compared with"
    )
    judge: Literal["never", "doubt", "all"] = Field(
        "never",
        description="which clips models describe and judge, by what is seen and what is heard: `doubt` are those of "
        "which cheap evidence leaves it open whether they stay; roles eyes, ears and judge below `models`",
    )
    doubt: float = Field(
        0.4, ge=0, le=1, description="how far from the cut P(match) of a clip that is judged may be, for `doubt`"
    )
    most_judged: float = Field(
        0.5, ge=0, description="at most so many clips are judged for `doubt`: a share up to 1, else a number"
    )
    index_below: float | None = Field(
        None,
        description=(
            "for `doubt` clips whose `index_fit` is lower are judged too (0: a mean sound of the corpus fits the "
            "picture better), whatever P(match) says; `flywheel index` first; null for none"
        ),
    )
    calibration_clips: int = Field(
        200, ge=0, description="train clips that are judged also with another video's sound: what scores are worth"
    )
    repeats: int = Field(
        50, ge=0, description="of these so many are judged again, in the other order and by other sampling"
    )
    prompts: tuple[str, str, str] = Field(
        ("seen", "heard", "judge"), description="names of bundled prompts or paths: what is seen, heard, and judged"
    )
    dnsmos: str = Field(
        "", description="DNSMOS' sig_bak_ovr.onnx, for columns of how good speech sounds; empty leaves them out"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that decode clips")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the random choice and of intervals")

    @model_validator(mode="after")
    def _value_fits(self) -> Curate:
        if self.policy in ("lose", "quantile") and self.value > 1:
            raise ValueError(f"value: a share is at most 1 for policy {self.policy}, got {self.value:g}")
        if self.policy == "lose" and self.by != "p_match":
            raise ValueError("policy lose needs by: p_match, which alone says how many good clips are lost")
        if self.judge == "doubt" and self.by != "p_match":
            raise ValueError("judge: doubt is about P(match): set by: p_match, or let it judge all")
        if self.index_below is not None and self.judge != "doubt":
            raise ValueError(f"index_below adds to the clips in doubt: set judge: doubt, got judge: {self.judge}")
        return self
