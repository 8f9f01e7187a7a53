"""Pretraining from the base, on the newest texts of train clips, with the noise-robust loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from flywheel.core.progress import say
from flywheel.core.types import Example, NoiseSignal
from flywheel.rounds import accelerators, traces
from flywheel.rounds.context import RoundContext
from flywheel.rounds.mix import older_rounds
from flywheel.rounds.stages import _begun, _devices
from flywheel.rounds.stages._devices import Training
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.stages._training import note_unreadable
from flywheel.rounds.texts import SourceChoice

if TYPE_CHECKING:
    from trainers import TrainingResult

#: What the note beside the weights has on top of the result: it differs from run to run, so it is no result.
_MEASURED = frozenset({"busy_share", "peak_gib"})


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What was trained on and how it went; ``skipped`` says why nothing was.

    ``learned_from_round`` and ``older_rounds`` are the sources, ``anchor_f1`` the anchors' token F1 of each round's
    texts, ``loss_figures`` what the loss says of the noise (``noise_rate/GROUP`` and the like). ``optimizer`` is
    the one that ``pretrain.optimizer`` came to. ``unreadable`` counts clips that were left out since they can't be
    read, ``unreadable_files`` names the first.
    """

    skipped: str = ""
    steps: int = 0
    loss: float = 0.0
    eval_loss: float | None = None
    optimizer: str = ""
    examples: int = 0
    learned_from_round: int = 0
    older_rounds: list[int] = field(default_factory=list)
    anchor_f1: dict[str, float] = field(default_factory=dict)
    num_anchors: int = 0
    fell_back_to_mle: bool = False
    loss_figures: dict[str, float] = field(default_factory=dict)
    unreadable: int = 0
    unreadable_files: list[str] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        if self.skipped:
            return {"skipped": self.skipped}
        values = asdict(self)
        left_out = () if self.unreadable else ("unreadable", "unreadable_files")
        for name in ("skipped", *left_out):
            del values[name]
        return {**values, **values.pop("loss_figures")}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PretrainResult:
        names = {f.name for f in fields(cls)} - {"loss_figures"}
        others = names | _MEASURED | {accelerators.KEY}
        return cls(
            **{name: value for name, value in record.items() if name in names},
            loss_figures={name: value for name, value in record.items() if name not in others},
        )


def run(context: RoundContext, round: int) -> PretrainResult:
    """Train M_round's weights, or note why there is nothing to train on."""
    config, workspace = context.config, context.workspace
    out = workspace.model_folder(round) / "model"
    if config.pretrain.num_steps == 0:
        return PretrainResult(skipped="pretrain.num_steps is 0")
    if (record := traces.finished(workspace, out, round)) is not None:
        return PretrainResult.from_record(record)
    begun = _begun.begin(out.with_name("model.work"), context, round)
    kept = begun.examples["kept"]
    if not kept:
        return PretrainResult(skipped="no clip of the train split has a text")
    falls_back = context.loss().adapts and not begun.examples["human"]
    if falls_back:
        say(
            f"pretrain: no corrected anchors, so {config.loss.name} can't tell noise "
            "and falls back to maximum likelihood."
        )
    start = context.base
    if config.pretrain.start == "previous" and workspace.champion() > 0:
        start = context.checkpoint(workspace.champion())[0]
    training = Training(stage="pretrain", start=start, out=out, examples=begun.examples)
    trained = _devices.trained(context, training, context.tracker.sink(round))
    record_noise_signals(context, round, kept, trained.row_weight)
    files = note_unreadable(context, round, "pretrain", trained.unreadable)
    older = older_rounds(begun.choice, config.pretrain)
    result = replace(_result(trained, begun.choice, older, len(kept), falls_back), unreadable_files=files)
    note = {**result.to_record(), **{name: getattr(trained, name) for name in sorted(_MEASURED)}}
    traces.finish(workspace, out, round, note, begun.learned_rows(trained.unreadable))
    return result


def _result(
    trained: TrainingResult, choice: SourceChoice, older: Sequence[int], num_examples: int, falls_back: bool
) -> PretrainResult:
    return PretrainResult(
        steps=trained.steps,
        loss=trained.loss,
        eval_loss=trained.eval_loss,
        optimizer=trained.optimizer,
        examples=num_examples,
        learned_from_round=choice.round,
        older_rounds=list(older),
        anchor_f1={str(r): f1 for r, f1 in choice.anchor_f1.items()},
        num_anchors=choice.num_anchors,
        fell_back_to_mle=falls_back,
        loss_figures=dict(trained.figures),
        unreadable=len(trained.unreadable),
    )


def record_noise_signals(
    context: RoundContext, round: int, examples: Sequence[Example], weights: Mapping[int, float]
) -> None:
    """Record one minus the mean weight of each text's tokens: low weight means suspected noise, for review.

    Of a text of several rows, which answers several questions, it is their mean.
    """
    of_text: dict[str, list[float]] = {}
    for row, weight in sorted(weights.items()):
        of_text.setdefault(examples[row].annotation_id, []).append(1.0 - weight)
    signals = [
        NoiseSignal(annotation_id=annotation_id, origin="loss weight", value=sum(values) / len(values))
        for annotation_id, values in of_text.items()
    ]
    context.workspace.add_noise_signals(signals, round)


def figures(result: PretrainResult) -> Mapping[str, float]:
    """The noise rates that the loss measured, by group."""
    return {name: float(v) for name, v in result.loss_figures.items() if name.startswith("noise_rate/")}


STAGE = Stage(run=run, result=PretrainResult, figures=figures)
