"""Which stages a round has."""

from __future__ import annotations

from pydantic import Field, field_validator

from flywheel.core.config.sections._section import Section
from flywheel.core.types import ROUND_STAGES


class Rounds(Section):
    stages: tuple[str, ...] = Field(
        ROUND_STAGES,
        min_length=1,
        description="stages of a round in their order; another package's stage has a section of its own name",
    )

    @field_validator("stages")
    @classmethod
    def _each_once(cls, stages: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := sorted({name for name in stages if stages.count(name) > 1}):
            raise ValueError(f"'{repeated[0]}' stands there twice")
        if missing := [name for name in ("evaluate", "gate") if name not in stages]:
            raise ValueError(f"a round needs the stage '{missing[0]}'")
        if stages[-1] != "gate":
            raise ValueError("the gate must be the last stage")
        return stages
