"""When rounds run by themselves."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Schedule(Section):
    cron: str = Field(
        "", description="when `flywheel schedule start` runs a round: minute hour day month weekday; empty is never"
    )
    timezone: str = Field("", description="zone of these times, such as Europe/Berlin; empty is the machine's")
    patience_hours: float = Field(
        0.0,
        ge=0,
        description=(
            "hours that a round waits for `review.wait_for` corrections before it goes on without; "
            "0 waits for as long as it takes"
        ),
    )
    max_hours: float = Field(
        0.0, ge=0, description="a run that takes longer is stopped, and goes on the next time; 0 is no limit"
    )
    max_money: float = Field(
        0.0,
        ge=0,
        description=(
            "a round whose texts (by annotate's prices) and training (by its price per hour) cost more is stopped; 0 "
            "is no limit"
        ),
    )
    hook: str = Field(
        "",
        description="command (JSON on its standard input) or URL (JSON by POST) told of waiting, done, refused, failed",
    )
