"""How sounds are edited, and when an edit is taken."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section
from flywheel.core.types import Split


class Repair(Section):
    enabled: bool = Field(
        False, description="begin each round with the stage `repair`: clips' sounds are edited where that helps"
    )
    planner: str = Field(
        "rules",
        description="what plans edits: `rules`, `model` (a language model, role planner below `models`), the controls "
        "`random` and `nothing`, or another package's",
    )
    splits: tuple[Split, ...] = Field(
        ("train", "test", "anchor"),
        min_length=1,
        description="whose sounds are looked at; `[train]` leaves what rounds are measured on alone. What was edited "
        "before, or by `flywheel repair --clips`, stays until it is undone, also where `enabled` is false",
    )
    margin: float = Field(
        0.03,
        ge=0,
        le=1,
        description="by how much synchrony and agreement must rise, beside chance, for an edit in time to be taken",
    )
    quality_margin: float = Field(
        0.4,
        ge=0,
        le=1,
        description="by how much measured quality must, for one of noise or level; 1 is the whole way from clips "
        "spoiled on purpose to the better ones as they came",
    )
    enough: float = Field(0.85, ge=0, le=1, description="a sound whose rewards are all so high is left alone")
    cycles: int = Field(5, ge=1, le=20, description="plans that are tried for a clip at most")
    no_plans: int = Field(
        2, ge=1, le=20, description="replies in a row that are no plans, after which a clip's search ends"
    )
    calibration_clips: int = Field(
        200, ge=4, description="clips that tell what rewards are worth here, and what levels are usual"
    )
    recogniser: str = Field(
        "",
        description="folder of a Whisper model for CTranslate2: an edit after which it understands less is refused; "
        "empty asks none",
    )
    cache_gib: float = Field(
        20.0, gt=0, description="most that files of edited sounds may hold, GiB; those that went are made again"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that read and edit clips")
