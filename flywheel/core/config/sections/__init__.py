"""The sections of the configuration, a file each: frozen models whose fields' descriptions are their documentation.

Names of engines, signals, kinds and the like are plain text here: whoever builds by name checks them against its
registry, so that another package's names are as good as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from flywheel.core.config.sections._section import MAIN, Section
from flywheel.core.config.sections.annotate import Annotate
from flywheel.core.config.sections.corpus import Corpus
from flywheel.core.config.sections.curate import Curate
from flywheel.core.config.sections.evaluate import Evaluate
from flywheel.core.config.sections.finetune import Finetune
from flywheel.core.config.sections.gate import Gate
from flywheel.core.config.sections.model import Model
from flywheel.core.config.sections.narrate import Narrate
from flywheel.core.config.sections.pretrain import Loss, Pretrain
from flywheel.core.config.sections.ray import Ray
from flywheel.core.config.sections.repair import Repair
from flywheel.core.config.sections.review import Review
from flywheel.core.config.sections.rounds import Rounds
from flywheel.core.config.sections.schedule import Schedule
from flywheel.core.config.sections.search import Index, Retrieve
from flywheel.core.config.sections.store import Store, Tracking
from flywheel.core.config.sections.train import Train
from flywheel.core.config.sections.transcribe import Transcribe
from flywheel.core.types import CURATE, REPAIR

__all__ = [
    "MAIN",
    "Annotate",
    "Config",
    "Corpus",
    "Curate",
    "Evaluate",
    "Finetune",
    "Gate",
    "Index",
    "Loss",
    "Model",
    "Narrate",
    "Pretrain",
    "Ray",
    "Repair",
    "Retrieve",
    "Review",
    "Rounds",
    "Schedule",
    "Section",
    "Store",
    "Tracking",
    "Train",
    "Transcribe",
]


class Config(Section):
    """A workspace's configuration. Secrets never stand here: they come from the environment."""

    corpus: Corpus = Corpus()
    models: Mapping[str, Model] = Field(
        default_factory=lambda: {MAIN: Model()},
        description="models by role: `main`, which rounds improve, and those that prompts ask for by name",
    )
    transcribe: Transcribe = Transcribe()
    rounds: Rounds = Rounds()
    repair: Repair = Repair()
    curate: Curate = Curate()
    annotate: Annotate = Annotate()
    ray: Ray = Ray()
    pretrain: Pretrain = Pretrain()
    train: Train = Train()
    loss: Loss = Loss()
    finetune: Finetune = Finetune()
    review: Review = Review()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    narrate: Narrate = Narrate()
    index: Index = Index()
    retrieve: Retrieve = Retrieve()
    tracking: Tracking = Tracking()
    schedule: Schedule = Schedule()
    store: Store = Store()
    #: Sections of other packages' stages, by the stage's name, as they stand in the file.
    plugins: Mapping[str, Any] = Field(default_factory=dict, description="sections of other packages' stages")

    @model_validator(mode="after")
    def _facts_have_a_judge(self) -> Config:
        if "facts" in self.gate.measures and not self.evaluate.judges:
            raise ValueError("gate.measures: facts needs a judge. Name its role (below models) in evaluate.judges")
        if "qa" in self.gate.measures and not self.evaluate.questions:
            raise ValueError("gate.measures: qa needs questions. Name their file in evaluate.questions")
        if self.evaluate.questions and self.evaluate.reader not in self.models:
            raise ValueError(
                f"evaluate.questions needs a model that answers: models.{self.evaluate.reader} is missing. "
                "Add it, or name another role in evaluate.reader"
            )
        return self

    @field_validator("models")
    @classmethod
    def _with_main(cls, models: Mapping[str, Model]) -> Mapping[str, Model]:
        if bad := [role for role in models if not role.replace("_", "").replace("-", "").isalnum()]:
            raise ValueError(f"a role is a word of letters and digits, got {bad[0]!r}")
        return {MAIN: Model(), **models}

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a new round in their order: `repair` and `curate` are among them where they are enabled."""
        wanted = {REPAIR: self.repair.enabled, CURATE: self.curate.enabled}
        named = tuple(name for name in self.rounds.stages if wanted.get(name, True))
        return (*(name for name, on in wanted.items() if on and name not in named), *named)

    @property
    def main(self) -> Model:
        """The model that rounds improve."""
        return self.models[MAIN]
