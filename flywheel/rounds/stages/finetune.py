"""Fine-tuning: LoRA on the corrections of train clips, by plain maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from flywheel.core.types import Example
from flywheel.rounds import traces
from flywheel.rounds.context import RoundContext
from flywheel.rounds.mix import human_example
from flywheel.rounds.stages import _devices
from flywheel.rounds.stages._devices import Training
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.stages._training import note_unreadable
from flywheel.rounds.texts import CurrentTexts


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What was tuned on (``corrections``: their ids) and how it went; ``skipped`` says why nothing was.

    ``unreadable`` counts clips that were left out since they can't be read, ``unreadable_files`` names the first.
    """

    skipped: str = ""
    steps: int = 0
    loss: float = 0.0
    examples: int = 0
    corrections: list[str] = field(default_factory=list)
    unreadable: int = 0
    unreadable_files: list[str] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        if self.skipped:
            return {"skipped": self.skipped, "examples": self.examples}
        values = asdict(self)
        left_out = () if self.unreadable else ("unreadable", "unreadable_files")
        for name in ("skipped", *left_out):
            del values[name]
        return values

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FinetuneResult:
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})


def run(context: RoundContext, round: int) -> FinetuneResult:
    """Train M_round's adapter, or note that there are too few corrections."""
    config, workspace = context.config, context.workspace
    out = workspace.model_folder(round) / "adapter"
    if (record := traces.finished(workspace, out, round)) is not None:
        return FinetuneResult.from_record(record)
    texts = context.texts()
    examples = tune_examples(context, texts, round)
    if config.finetune.num_steps == 0 or len(examples) < config.finetune.min_corrections:
        reason = f"{len(examples)} tune corrections, {config.finetune.min_corrections} needed"
        return FinetuneResult(skipped=reason, examples=len(examples))
    training = Training(stage="finetune", start=context.checkpoint(round)[0], out=out, examples={"kept": examples})
    trained = _devices.trained(context, training, context.tracker.sink(round))
    files = note_unreadable(context, round, "finetune", trained.unreadable)
    examples = [e for e in examples if e.clip_id not in trained.unreadable]
    result = FinetuneResult(
        steps=trained.steps,
        loss=trained.loss,
        examples=len(examples),
        corrections=[c for e in examples for c in texts.human[e.clip_id].corrections],
        unreadable=len(trained.unreadable),
        unreadable_files=files,
    )
    traces.finish(workspace, out, round, result.to_record(), traces.learned_rows("finetune", examples, texts))
    return result


def tune_examples(context: RoundContext, texts: CurrentTexts, round: int) -> list[Example]:
    """The examples that people's texts of train clips are, in the order in which the clips were taken in."""
    corrected = {clip_id for clip_id, human in texts.human.items() if human.text is not None}
    train = context.split("train").with_ids(sorted(corrected))
    return [
        human_example(clip.id, texts.human[clip.id], evidence) for clip, evidence in context.with_evidence(train, round)
    ]


STAGE = Stage(run=run, result=FinetuneResult)
