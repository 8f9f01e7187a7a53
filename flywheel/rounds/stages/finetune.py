"""Fine-tuning: a LoRA that learns people's texts of train clips, pairs of which they found one better, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any

from flywheel.core.progress import say
from flywheel.core.types import Example, content_id
from flywheel.models.load import folder_digest
from flywheel.rounds import traces
from flywheel.rounds.context import RoundContext
from flywheel.rounds.mix import human_example
from flywheel.rounds.stages import _devices
from flywheel.rounds.stages._devices import Training
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.stages._training import note_unreadable
from flywheel.rounds.text_pairs import FoundPairs, find_pairs, pair_examples
from flywheel.rounds.texts import CurrentTexts


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What was tuned on (``corrections``: their ids) and how it went; ``skipped`` says why nothing was.

    ``unreadable`` counts clips that were left out since they can't be read, ``unreadable_files`` names the first.
    ``method`` is what was done, ``instead_of`` the configured method where that could not be, ``pairs`` how many pairs
    each source gave, ``no_pairs`` why (reason -> number) other words of people made none, and ``pair_figures`` how far
    the pairs were learned (:meth:`trainers.pair_loss.PairLoss.figures`); all empty where no pairs were asked for.
    """

    skipped: str = ""
    steps: int = 0
    loss: float = 0.0
    examples: int = 0
    corrections: list[str] = field(default_factory=list)
    unreadable: int = 0
    unreadable_files: list[str] = field(default_factory=list)
    method: str = ""
    instead_of: str = ""
    pairs: dict[str, int] = field(default_factory=dict)
    no_pairs: dict[str, int] = field(default_factory=dict)
    pair_figures: dict[str, float] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        if self.skipped:
            no_pairs = {"no_pairs": self.no_pairs} if self.no_pairs else {}
            return {"skipped": self.skipped, "examples": self.examples, **no_pairs}
        values = asdict(self)
        left_out = ["skipped"]
        left_out += [] if self.unreadable else ["unreadable", "unreadable_files"]
        left_out += [name for name in ("method", "instead_of", "pairs", "no_pairs", "pair_figures") if not values[name]]
        return {name: value for name, value in values.items() if name not in left_out}

    def figures(self) -> dict[str, float]:
        """How far pairs were learned, and how many there were by their source."""
        learned = {f"pairs/{name.removeprefix('pair_')}": value for name, value in self.pair_figures.items()}
        return learned | {f"pairs/of_{source}s": float(count) for source, count in self.pairs.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FinetuneResult:
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    """What there is to learn: people's texts and pairs, those of them that the method asks for and that are enough.

    ``method`` is what can be done of the one that is configured, empty where there is too little of all; ``why`` says
    what is missing.
    """

    method: str
    why: str
    examples: list[Example]
    pairs: FoundPairs


def run(context: RoundContext, round: int) -> FinetuneResult:
    """Train M_round's adapter, or note that there are too few corrections, or pairs."""
    workspace = context.workspace
    out = workspace.model_folder(round) / "adapter"
    if (record := traces.finished(workspace, out, round)) is not None:
        return FinetuneResult.from_record(record)
    texts = context.texts()
    wanted, lesson = context.config.finetune.method, _lesson(context, texts, round)
    if not lesson.method:
        no_pairs = dict(lesson.pairs.left_out)
        return FinetuneResult(skipped=lesson.why, examples=len(lesson.examples), no_pairs=no_pairs)
    if lesson.method != wanted:
        say(f"finetune: {lesson.method} instead of {wanted}: {lesson.why}")
    from trainers import checkpoints
    from trainers.examples import digest_of

    examples, pairs = lesson.examples, lesson.pairs
    training = Training(
        stage="finetune",
        start=context.checkpoint(round)[0],
        out=out,
        examples={"kept": examples, "pairs": pair_examples(context, pairs.pairs, round)},
    )
    # Other settings, or other weights to begin with, would be mixed with those that the checkpoint had.
    settings = context.config.finetune.model_dump_json(exclude={"save_every", "merge"})
    rows = digest_of(chain(*training.examples.values()))
    begun = content_id(rows, settings, folder_digest(training.start))
    checkpoints.same_rows(out.with_name(out.name + ".work"), begun, "finetune")
    trained = _devices.trained(context, training, context.tracker.sink(round))
    files = note_unreadable(context, round, "finetune", trained.unreadable)
    examples = [e for e in examples if e.clip_id not in trained.unreadable]
    pairs = pairs.without(trained.unreadable)
    result = FinetuneResult(
        steps=trained.steps,
        loss=trained.loss,
        examples=len(examples),
        corrections=[c for e in examples for c in texts.human[e.clip_id].corrections],
        unreadable=len(trained.unreadable),
        unreadable_files=files,
        method="" if wanted == "sft" else lesson.method,
        instead_of="" if wanted == lesson.method else wanted,
        pairs=pairs.by_source(),
        no_pairs=dict(pairs.left_out),
        pair_figures=dict(trained.figures),
    )
    learned = traces.learned_rows("finetune", examples, texts, pairs.pairs)
    traces.finish(workspace, out, round, result.to_record(), learned)
    return result


def _lesson(context: RoundContext, texts: CurrentTexts, round: int) -> _Lesson:
    """What the configured method finds to learn from."""
    plan = context.config.finetune
    wanted = plan.method.split("+") if plan.num_steps else []
    examples = tune_examples(context, texts, round) if "sft" in wanted or not wanted else []
    pairs = find_pairs(context, texts, plan.pairs_from) if "dpo" in wanted else FoundPairs()
    lacking = {
        "sft": (len(examples), f"{len(examples)} tune corrections, {plan.min_corrections} needed"),
        "dpo": (len(pairs.pairs), f"{len(pairs.pairs)} pairs of texts, {plan.min_corrections} needed"),
    }
    done = [name for name in wanted if lacking[name][0] >= plan.min_corrections]
    why = [lacking[name][1] for name in (wanted or ["sft"]) if name not in done]
    return _Lesson(
        method="+".join(done),
        why="; ".join(why),
        examples=examples if "sft" in done or not done else [],
        pairs=pairs if "dpo" in done else FoundPairs(left_out=pairs.left_out),
    )


def tune_examples(context: RoundContext, texts: CurrentTexts, round: int) -> list[Example]:
    """The examples that people's texts of train clips are, in the order in which the clips were taken in."""
    corrected = {clip_id for clip_id, human in texts.human.items() if human.text is not None}
    train = context.split("train").with_ids(sorted(corrected))
    return [
        human_example(clip.id, texts.human[clip.id], evidence) for clip, evidence in context.with_evidence(train, round)
    ]


STAGE = Stage(run=run, result=FinetuneResult, figures=FinetuneResult.figures)
