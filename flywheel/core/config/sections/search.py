"""The index of clips, and what texts are measured by with it."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section
from flywheel.core.types import MAX_SEED


class Index(Section):
    encoder: str = Field(
        "trimodal",
        description="what `flywheel index` trains: `trimodal` is searched by texts, pictures and sounds, `dual` by "
        "pictures and sounds alone",
    )
    sizes: dict[str, int | float | bool | str] = Field(
        default_factory=dict,
        description="the encoder's sizes where they are not the small preset's: `width: 256`, …; of `dual` also "
        "`pictures` and `sounds`, folders of frozen models whose features it learns from, such as DINOv2 and Whisper",
    )
    folder: str = Field(
        "",
        description="folder of an encoder that is there, to be used instead of training one: another workspace's, or a "
        "CLIP-like, CLAP-like or PE-AV model's as transformers loads it",
    )
    steps: int = Field(400, ge=1, description="steps of its training")
    batch: int = Field(64, ge=2, description="clips that are told apart from each other in a step")
    chunk: int = Field(64, ge=1, description="clips of a batch that are in memory at a time; changes no result")
    rate: float = Field(2e-3, gt=0, description="peak of the learning rate")
    decoders: int = Field(2, ge=1, le=256, description="threads that decode clips")
    graph_above: int = Field(
        200_000,
        ge=0,
        description="a modality that more clips have is searched by a graph of its vectors, which finds nearly all of "
        "the nearest without a look at each; needs the extra `search`",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of weights, of the order of clips and of what is hidden")


class Retrieve(Section):
    steps: int = Field(
        200, ge=1, description="steps by which the stage `retrieve` trains an encoder on each of the texts it compares"
    )
    least: int = Field(
        20, ge=2, description="anchors that people corrected below which the stage `retrieve` measures nothing"
    )
