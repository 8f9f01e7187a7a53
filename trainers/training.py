"""Training with transformers' Trainer and our loss: one loop for pretraining and fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from flywheel.core.progress import Progress, progress
from flywheel.core.reading import Unreadable
from flywheel.core.types import HUMAN, MetricSink
from flywheel.models.features import KeptFeatures
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm
from noise_control import TokenLoss
from trainers import checkpoints, memory
from trainers.border import foreign_failures
from trainers.data import BucketSampler, Clock, Collator, Rows, TrainingSet
from trainers.examples import columns_of, text_lengths
from trainers.features import features_for
from trainers.feeding import Feeder
from trainers.forms import Forms
from trainers.joint import JointTrainer, reading_states
from trainers.loss_trainer import LossTrainer
from trainers.moments import EightBitAdamW
from trainers.pair_trainer import JointPairTrainer, PairTrainer
from trainers.pairs import PairCollator, PairSampler, RowSampler
from trainers.ranks import all_reduce, distributed, gathered_objects, num_ranks, this_rank
from trainers.rounding import RoundedAdamW
from trainers.row_weights import RowWeights
from trainers.sharding import accelerator_config, is_zero3
from trainers.weights import check_trained


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train. Steps are optimizer steps, ``batch_size`` is clips per step, over all ranks and parts; where texts
    and pairs are learned, of each.

    ``parts`` are those that a rank takes its share of a step in, adding up their gradients. ``deepspeed`` is
    DeepSpeed's configuration where it shards the training (:mod:`trainers.sharding`).

    ``learning_rate`` is the peak, after ``warmup_share`` of the steps; from there it falls as a cosine to a tenth.
    ``human_every`` is the number of steps between looks of an adaptive loss at people's texts. ``bf16`` lets products
    be computed in it. ``optimizer`` is ``adamw_sr`` (:class:`trainers.rounding.RoundedAdamW`) or ``adamw_8bit``
    (:class:`trainers.moments.EightBitAdamW`) for bf16 weights, else AdamW for fp32 ones.
    ``decoders`` are the threads that prepare batches. ``features_bytes`` is the most memory for what a frozen vision
    tower makes of all clips (:mod:`flywheel.models.features`); with 0 it is computed at every step.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    save_every: int = 100
    gradient_checkpointing: bool = False
    bf16: bool = False
    optimizer: str = "adamw"
    parts: int = 1
    deepspeed: Mapping[str, Any] | None = None
    decoders: int = 2
    features_bytes: int = 0
    human_every: int = 25
    seed: int = 0
    log_every: int = 25


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training gave; figures are those of all its steps, whether it was interrupted or not.

    ``loss`` is the mean training loss and ``eval_loss`` the held-out texts' likelihood loss, in nats per token.
    ``row_weight`` is the mean token weight at each row's last visit (row -> [0, 1]): low is suspected noise. In a
    training on several ranks it is of the rows of all. ``figures`` are the loss's own, by group name.
    ``busy_share`` is the share of the time from the first batch to the last step in which the device did not wait for a
    batch, since the last resume (:class:`trainers.feeding.Waiting`), of several ranks the least. ``peak_gib`` is the
    most memory of the accelerator that was in use, of several the most; without one, of this process since it began.
    ``unreadable`` are clips that were left out since they can't be read, with the reason.
    """

    steps: int
    loss: float
    eval_loss: float | None
    row_weight: Mapping[int, float]
    figures: Mapping[str, float]
    optimizer: str = "adamw"
    busy_share: float = 1.0
    peak_gib: float = 0.0
    unreadable: Mapping[str, str] = field(default_factory=dict)


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Steps the loss, completes checkpoints and goes on from them, reports."""

    def __init__(
        self, token_loss: TokenLoss, row_weights: RowWeights, groups: Mapping[str, int], sink: MetricSink, label: str
    ) -> None:
        self._loss, self._row_weights, self._groups = token_loss, row_weights, groups
        self._sink, self._label = sink, label
        self._bar: Progress | None = None
        self._trainer: Any = None
        self._running_loss: dict[str, Tensor] = {}
        self._collators: Mapping[str, Collator] = {}

    def attach(self, trainer: Any, bar: Progress, collators: Mapping[str, Collator]) -> None:
        """Say whose training is kept, where its progress is shown, and what reads its data."""
        self._trainer, self._bar, self._collators = trainer, bar, collators

    def resume(self, checkpoint: Path, device: str) -> None:
        """Take over a checkpoint's state before the training goes on."""
        self._running_loss = checkpoints.load(checkpoint, self._loss, self._row_weights, device)
        for name, state in checkpoints.load_reading(checkpoint).items():
            # It is of all ranks: one of them goes on counting.
            if name in self._collators and this_rank() == 0:
                self._collators[name].take(state)
        if self._bar is not None:
            self._bar.advance(checkpoints.step_of(checkpoint))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        checkpoints.restore_running_loss(self._trainer, self._running_loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.step(all_reduce if distributed() else None)
        if self._bar is not None:
            self._bar.advance()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        reading = reading_states(self._collators)
        if state.is_world_process_zero:
            checkpoints.save_reading(folder, reading)
        checkpoints.save(folder, self._loss, self._row_weights, self._trainer)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        wanted = ("loss", "eval_loss", "learning_rate", "grad_norm")
        values = {name: float(value) for name, value in (logs or {}).items() if name in wanted}
        values.update(_named(self._loss.figures(), self._groups))
        self._sink.log({f"{self._label}/{name}": value for name, value in values.items()}, state.global_step)


def _named(figures: Mapping[str, float], groups: Mapping[str, int]) -> dict[str, float]:
    """A loss's figures, with the groups' names for their numbers."""
    by_index = {str(index): name for name, index in groups.items()}
    out = {}
    for name, value in figures.items():
        what, slash, index = name.rpartition("/")
        if not slash:
            out[name] = value
        elif index in by_index:  # prepare() makes at least one group; with only human texts it has no name.
            out[f"{what}/{by_index[index]}"] = value
    return out


def train(
    vlm: Vlm,
    builder: InputBuilder,
    data: TrainingSet,
    token_loss: TokenLoss,
    plan: TrainingPlan,
    work_folder: Path,
    *,
    sink: MetricSink,
    label: str,
    held_out: TrainingSet | None = None,
    human: TrainingSet | None = None,
    pairs: TrainingSet | None = None,
) -> TrainingResult:
    """Train ``vlm.model`` in place, going on from ``work_folder``'s last whole checkpoint where there is one.

    A resumed training gives the same weights, loss and row weights as one that was not interrupted.

    ``human`` are texts that people vouch for, against which adaptive losses measure the others. ``held_out``, texts of
    the same groups as ``data`` that are not trained on, are what is measured, and give the eval loss. ``label`` is the
    prefix of the figures that ``sink`` gets.

    With ``pairs``, each one's better text and behind it the worse one, steps have as many pairs as texts, and
    ``token_loss`` is a :class:`trainers.pair_loss.PairLoss`; ``data`` may then be without texts.

    Clips that can't be read are left out. Raises Unreadable where they are most, FlywheelError where the loss is not
    finite, UserError for bf16 weights and an optimizer that would not train them.
    """
    if plan.deepspeed is None:
        check_trained(vlm.model, plan.optimizer)
    joint = num_ranks() > 1 or plan.parts > 1 or plan.deepspeed is not None
    memory.start(vlm.device)
    parts = [data, *([held_out] if held_out is not None else [])]
    names = {name for part in parts for name in columns_of(part.examples).groups} - {HUMAN}
    groups = {name: index for index, name in enumerate(sorted(names))}
    numbers = {**groups, HUMAN: -1}
    token_loss.prepare(num_groups=max(1, len(groups)))
    kept = features_for(vlm, builder, (data, pairs, held_out, human), plan, label)
    sampler, collator = _reading_of(data, pairs, builder, numbers, plan, label, shares=joint, features=kept)
    row_weights = RowWeights(len(collator))
    keeper = _Keeper(token_loss, row_weights, groups, sink, label)
    collators = {"data": collator}
    if human:
        people = dict.fromkeys(columns_of(human.examples).groups, -1)
        collators["human"] = Collator(human, builder, people, None, f"{label}, anchors", shares=joint, features=kept)
    if held_out:
        what = f"{label}, held-out clips"
        collators["held_out"] = Collator(held_out, builder, numbers, None, what, shares=joint, features=kept)
    with progress(label, plan.num_steps) as bar, Feeder(vlm.device, plan.decoders) as feeder:
        kind: Any = PairTrainer if pairs else LossTrainer
        if joint:
            sharded = plan.deepspeed is not None and is_zero3(plan.deepspeed)
            forms = Forms(builder, data.prompt.instruction, needed=sharded)
            kind = partial(JointPairTrainer if pairs else JointTrainer, parts=plan.parts, forms=forms)
        trainer = kind(
            model=vlm.model,
            args=_arguments(plan, _step_rows(plan, sampler), work_folder),
            train_dataset=Rows(len(collator)),
            eval_dataset=Rows(len(held_out.examples)) if held_out else None,
            feeder=feeder,
            features=kept,
            batch=collators["data"],
            optimizer_cls_and_kwargs=_own_optimizer(plan),
            callbacks=[keeper],
            token_loss=token_loss,
            human=collators.get("human"),
            held_out=collators.get("held_out"),
            human_every=plan.human_every,
            batch_size=_step_rows(plan, sampler),
            sampler=sampler,
            row_weights=row_weights,
        )
        trainer.remove_callback(_printer())
        keeper.attach(trainer, bar, collators)
        checkpoint = checkpoints.last_checkpoint(work_folder)
        if checkpoint is not None:
            keeper.resume(checkpoint, str(vlm.device))
            if checkpoints.step_of(checkpoint) >= plan.num_steps:
                # Killed after the last step. transformers would take one more, unless there is nothing to take.
                sampler.end()
        with foreign_failures(label):
            output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        busy_share = feeder.waiting.busy_share()
        eval_loss = trainer.evaluate()["eval_loss"] if held_out is not None and held_out.examples else None
    used = _used(busy_share, memory.peak_gib(vlm.device))
    sink.log({f"{label}/{name}": value for name, value in used.items()}, output.global_step)
    vlm.model.eval()
    _check_reading(collators.values(), work_folder)
    return TrainingResult(
        steps=output.global_step,
        loss=float(output.training_loss),
        eval_loss=eval_loss,
        row_weight=row_weights.gathered(),
        figures=_named(token_loss.figures(), groups),
        optimizer=plan.optimizer,
        **used,
        unreadable={clip: why for s in reading_states(collators).values() for clip, why in s["unreadable"].items()},
    )


def _reading_of(
    data: TrainingSet,
    pairs: TrainingSet | None,
    builder: InputBuilder,
    numbers: Mapping[str, int],
    plan: TrainingPlan,
    label: str,
    *,
    shares: bool,
    features: KeptFeatures | None,
) -> tuple[RowSampler, Collator]:
    """What draws the rows of steps, and what makes batches of them."""
    if pairs:
        drawn = PairSampler(data, pairs, builder, plan.batch_size, plan.seed)
        return drawn, PairCollator(data, pairs, builder, drawn.clock, label, shares=shares, features=features)
    clock, lengths = Clock(), text_lengths(data.examples, builder.tokenizer)
    sampler = BucketSampler(data.examples, lengths, plan.batch_size, plan.seed, clock)
    return sampler, Collator(data, builder, numbers, clock, label, shares=shares, features=features)


def _step_rows(plan: TrainingPlan, sampler: RowSampler) -> int:
    """Rows of a step over all ranks and parts: where there are texts and pairs, as many of each."""
    return plan.batch_size * (2 if isinstance(sampler, PairSampler) and sampler.by_turns else 1)


def _used(busy_share: float, peak_gib: float) -> dict[str, float]:
    """The figures of the rank that waited most, and of the one that took most memory."""
    of_ranks = gathered_objects((busy_share, peak_gib)) if distributed() else [(busy_share, peak_gib)]
    return {"busy_share": min(busy for busy, _ in of_ranks), "peak_gib": max(peak for _, peak in of_ranks)}


def _check_reading(collators: Iterable[Collator], work_folder: Path) -> None:
    """Raises Unreadable where a short training missed most of its clips; it begins anew the next time."""
    try:
        for collator in collators:
            collator.reading.check(ended=True)
    except Unreadable:
        checkpoints.forget(work_folder)
        raise


def _own_optimizer(plan: TrainingPlan) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """Class and arguments of an optimizer of ours; None for transformers' AdamW."""
    own = {"adamw_sr": RoundedAdamW, "adamw_8bit": EightBitAdamW}.get(plan.optimizer)
    if own is None:
        return None
    return own, {"lr": plan.learning_rate, "seed": plan.seed}


def _arguments(plan: TrainingPlan, step_rows: int, work_folder: Path) -> TrainingArguments:
    """The plan in transformers' words."""
    each = -(-step_rows // (plan.parts * num_ranks()))
    arguments = TrainingArguments(
        output_dir=str(work_folder),
        max_steps=plan.num_steps,
        per_device_train_batch_size=each,
        per_device_eval_batch_size=each,
        gradient_accumulation_steps=plan.parts,
        deepspeed=dict(plan.deepspeed) if plan.deepspeed is not None else None,
        accelerator_config=accelerator_config() if plan.deepspeed is not None else None,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=round(plan.warmup_share * plan.num_steps),
        weight_decay=plan.weight_decay,
        bf16=plan.bf16,
        gradient_checkpointing=plan.gradient_checkpointing,
        save_strategy="steps",
        save_steps=plan.save_every,
        save_total_limit=2,
        logging_steps=plan.log_every,
        logging_strategy="steps",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        # DeepSpeed finds the CPU by itself.
        use_cpu=not torch.cuda.is_available() and plan.deepspeed is None,
        seed=plan.seed,
        data_seed=plan.seed,
    )
    # Alone among several visible GPUs transformers would take them all, by DataParallel.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
