"""How models write texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flywheel.core.config.sections._section import Section
from flywheel.core.types import MAX_SEED


class Annotate(Section):
    by: Literal["champion"] | int = Field(
        "champion",
        description=(
            "whose model writes: the champion's, or always this round's (0 is the base), "
            "which nothing that it wrote can change"
        ),
    )
    prompt: str = Field("caption", description="name of a bundled prompt, or a path to a prompt file")
    also: tuple[str, ...] = Field(
        (),
        description=(
            "further prompts whose texts are written in the same stage: "
            "dense_caption, qa, tags, or paths to prompt files"
        ),
    )
    hints: tuple[str, ...] = Field(
        ("transcript", "sounds"), description="what the prompt shows beside the frames, where the clip has it"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that decode ahead of the engine")
    batch_size: int = Field(64, ge=1, description="clips per batch")
    max_new_tokens: int = Field(64, ge=1, description="most tokens of a text")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus, for temperature > 0")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of sampling; part of a generation's key")
    num_candidates: int = Field(
        1, ge=1, le=64, description="texts per clip, all kept; `select` says which becomes the annotation"
    )
    select: str = Field(
        "logprob",
        description="of several candidate replies: best mean log-prob, or minimum Bayes risk (nearest to the others)",
    )
    max_tries: int = Field(
        2, ge=1, description="tries before a clip is rejected, the later ones sampled at temperature 0.7"
    )
    script: str = Field(
        "", description="script that texts must be in, as in Unicode's names: LATIN, CJK, CYRILLIC; empty for any"
    )
    executor: Literal["local", "ray"] = Field(
        "local",
        description=(
            "where decoders and engines of a round's passes run: in this process, or on the cluster of `ray`; "
            "`flywheel benchmark` and the stage `questions` ask in this process"
        ),
    )
    commit_rows: int = Field(1024, ge=1, description="finished texts per commit; they wait 20 s at most")
    lease_s: float = Field(
        60.0,
        ge=1,
        description=(
            "with `annotate --join`: seconds after which the clips of a process that gives no sign of life are "
            "written by the others"
        ),
    )

    @model_validator(mode="after")
    def _candidates_differ(self) -> Annotate:
        if self.num_candidates > 1 and self.temperature == 0:
            raise ValueError("num_candidates > 1 needs a temperature above 0, or all candidate replies are the same")
        return self
