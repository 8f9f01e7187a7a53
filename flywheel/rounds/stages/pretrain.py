"""Pretraining from the base, on the newest texts of train clips, with the noise-robust loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.config import Config
from flywheel.core.progress import say
from flywheel.core.types import HUMAN, Example, NoiseSignal
from flywheel.rounds import accelerators, traces
from flywheel.rounds.context import RoundContext
from flywheel.rounds.held_out import held_out_clips
from flywheel.rounds.mix import older_rounds, training_examples
from flywheel.rounds.stages import _devices
from flywheel.rounds.stages._devices import Training
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.stages._training import note_unreadable
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.store.clip_index import ClipIndex

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
    texts = context.texts()
    choice = texts.choose(round, config.gate.min_anchors, config.pretrain.texts)
    kept, held_out = _examples(
        out.with_name("model.work"), training_examples(context, texts, choice, round), config, context.clips
    )
    if not kept:
        return PretrainResult(skipped="no clip of the train split has a text")
    anchors = _anchor_examples(context, texts, round)
    falls_back = context.loss().adapts and not anchors
    if falls_back:
        say(
            f"pretrain: no corrected anchors, so {config.loss.name} can't tell noise "
            "and falls back to maximum likelihood."
        )
    start = context.base
    if config.pretrain.start == "previous" and workspace.champion() > 0:
        start = context.checkpoint(workspace.champion())[0]
    training = Training(
        stage="pretrain", start=start, out=out, examples={"kept": kept, "held_out": held_out, "human": anchors}
    )
    trained = _devices.trained(context, training, context.tracker.sink(round))
    record_noise_signals(context, round, kept, trained.row_weight)
    files = note_unreadable(context, round, "pretrain", trained.unreadable)
    result = replace(
        _result(trained, choice, older_rounds(choice, config.pretrain), len(kept), falls_back), unreadable_files=files
    )
    note = {**result.to_record(), **{name: getattr(trained, name) for name in sorted(_MEASURED)}}
    shown = (example for example in kept if example.clip_id not in trained.unreadable)
    traces.finish(workspace, out, round, note, traces.learned_rows("pretrain", shown, texts))
    return result


def _anchor_examples(context: RoundContext, texts: CurrentTexts, round: int) -> list[Example]:
    """People's texts of anchor clips: what noise is measured against, never learned."""
    anchors = sorted(texts.anchors().items())
    clips = [context.clips[clip_id] for clip_id, _ in anchors]
    return [
        Example(clip_id=clip.id, text=text, prompt_texts=evidence.model_dump(), group=HUMAN)
        for (clip, evidence), (_, text) in zip(context.with_evidence(clips, round), anchors, strict=True)
    ]


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


def _examples(
    folder: Path, examples: Iterable[Example], config: Config, clips: ClipIndex
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Examples to learn from, and the few that are held out; in files, of which a few bytes a row are in memory."""
    import trainers

    folder.mkdir(parents=True, exist_ok=True)
    share = config.pretrain.eval_share
    if not share:
        return trainers.ExampleTable.write(folder / "kept.arrow", examples), []
    everything = trainers.ExampleTable.write(folder / "all.arrow", examples)
    held = held_out_clips(everything, share, clips.numbered_videos())
    kept = trainers.ExampleTable.write(folder / "kept.arrow", (e for e in everything if e.clip_id not in held))
    held_out = [example for example in everything if example.clip_id in held] if held else []
    everything.file.unlink()
    return kept, held_out


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
