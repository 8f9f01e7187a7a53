"""What is measured of each round."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section
from flywheel.core.types import MAX_SEED


class Evaluate(Section):
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")
    diversity_tokens: int = Field(2000, ge=10, description="size of the token sample that distinct-n is counted on")
    agreement_pairs: int = Field(64, ge=0, description="clips for the video-text margin; 0 leaves it out")
    judges: tuple[str, ...] = Field(
        (),
        description=(
            "roles of models below `models` that take the texts of corrected anchors and people's apart into facts and "
            "compare them both ways; the first counts, a second tells how far judges agree. Empty: no facts"
        ),
    )
    judges_of_own: tuple[str, ...] = Field(
        (), description="judges that may judge though they are the model under test, or the base that it began with"
    )
    fact_prompts: tuple[str, str] = Field(
        ("facts", "verdicts"), description="names of bundled prompts or paths: what takes a text apart, what compares"
    )
    questions: str = Field(
        "",
        description=(
            "file or folder of certified questions about the anchors' videos, such as bench/certified.jsonl, which "
            "the model `reader` answers from captions alone; empty asks none"
        ),
    )
    question_format: str = Field("flywheel", description="as 'flywheel benchmark formats' lists")
    question_videos: str = Field("", description="the folder of their videos; 'videos' beside them where it is empty")
    question_prompt: str = Field("answers", description="name of a bundled prompt or a path: how the reader is asked")
    reader: str = Field("reader", description="role below `models` of the model that answers questions from captions")
    seed: int = Field(0, ge=0, le=MAX_SEED)
