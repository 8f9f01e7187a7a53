"""When a round is promoted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Gate(Section):
    require: Literal["better", "not_worse"] = Field(
        "better",
        description=(
            "what a candidate must be shown to be on the anchors; "
            "`not_worse` by more than `margin`, with the anchors that power asks for"
        ),
    )
    measures: tuple[Literal["preference", "facts", "qa", "token_f1"], ...] = Field(
        ("token_f1",),
        min_length=1,
        description=(
            "what tells whether a candidate is better, the most trusted first: people's blind choices between its "
            "texts and the champion's (`preference`, see `review.compare`), facts shared with corrected texts "
            "(`facts`, see `evaluate.judges`), questions answered from its texts alone (`qa`, see "
            "`evaluate.questions`), word overlap with corrected texts (`token_f1`)"
        ),
    )
    fact_margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="loss of fact precision that is tolerated; a candidate that surely invents more is refused",
    )
    win_rate: float = Field(
        0.65,
        ge=0.55,
        le=1,
        description=(
            "share of blind choices, ties as half, that a candidate worth finding wins; with `power` it says how many "
            "choices are needed"
        ),
    )
    win_margin: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="loss of blind choices below one half that is tolerated; who surely loses more is refused",
    )
    margin: float = Field(0.0, ge=0, description="loss of anchor quality (token F1) that `not_worse` tolerates")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description=(
            "chance that a candidate no better ever takes a champion's place, over all that try: "
            "the j-th may spend alpha / (j (j + 1))"
        ),
    )
    effect: float = Field(0.05, gt=0, le=1, description="gain in token F1 that is worth finding")
    power: float = Field(0.9, gt=0, lt=1, description="chance to find it, which says how many anchors are needed")
    min_anchors: int = Field(8, ge=2, description="fewer corrected anchors than this and the gate can't tell at all")
    untested: Literal["refuse", "promote"] = Field(
        "refuse", description="what becomes of a candidate then: it is not promoted, or promoted and said so"
    )
    min_refiners: int = Field(1, ge=1, description="people who must have given the anchors' texts")
    min_gold_accuracy: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "a refiner whose accuracy on gold is surely below this (95 %) stops the round; see `flywheel exclude`"
        ),
    )
    on_alarm: Literal["warn", "refuse"] = Field(
        "warn", description="what becomes of a round of whose texts the collapse watch gives an alarm"
    )
    flat_rounds: int = Field(
        3, ge=1, description="so many rounds in a row that were not promoted, and the round advises to stop"
    )
    diversity_margin: float = Field(
        0.1, ge=0, description="loss of distinct-3 against the champion's that is tolerated, as a share"
    )
    max_reject_share: float = Field(
        0.1, ge=0, le=1, description="share of clips of which the candidate may fail to write"
    )
    max_cost_ratio: float = Field(3.0, gt=0, description="tokens per text against the champion's")
