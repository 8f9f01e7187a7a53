"""Training with transformers' Trainer and our loss: one loop for pretraining and fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from flywheel.core.errors import FlywheelError
from flywheel.core.progress import Progress, progress
from flywheel.core.reading import Unreadable
from flywheel.core.types import HUMAN, MetricSink
from flywheel.models.inputs import IGNORED, InputBuilder
from flywheel.models.load import Vlm
from noise_control import TokenContext, TokenLoss, linear_loss, losses
from trainers import checkpoints, memory
from trainers.border import foreign_failures
from trainers.data import BucketSampler, Clock, Collator, Rows, TrainingSet
from trainers.examples import columns_of, text_lengths
from trainers.feeding import FedLoader, Feeder
from trainers.head import OutputHead
from trainers.ranks import all_reduce, distributed
from trainers.rounding import RoundedAdamW
from trainers.row_weights import RowWeights
from trainers.weights import check_trained

#: Texts of people, and as many held-out ones, that an adaptive loss is shown at a time; more would cost a large model
#: more than they tell.
_MOST_SHOWN = 128


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train. Steps are optimizer steps, ``batch_size`` is clips per step and process.

    ``learning_rate`` is the peak, after ``warmup_share`` of the steps; from there it falls as a cosine to a tenth.
    ``human_every`` is the number of steps between looks of an adaptive loss at people's texts. ``bf16`` lets products
    be computed in it. ``optimizer`` is ``adamw_sr`` (:class:`trainers.rounding.RoundedAdamW`) for bf16 weights, else
    AdamW for fp32 ones. ``decoders`` are the threads that prepare batches.
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
    decoders: int = 2
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
    batch, since the last resume (:class:`trainers.feeding.Waiting`). ``peak_gib`` is the most memory of the accelerator
    that was in use; without one, of this process since it began. ``unreadable`` are clips that were left out since they
    can't be read, with the reason (of several ranks the first one's).
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


class _LossTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with a token loss of ours."""

    def __init__(
        self,
        *,
        token_loss: TokenLoss,
        human: Collator | None,
        held_out: Collator | None,
        human_every: int,
        sampler: BucketSampler,
        row_weights: RowWeights,
        feeder: Feeder,
        batch: Collator,
        **arguments: Any,
    ) -> None:
        # The loader gives rows; what makes batches of them runs ahead of it.
        super().__init__(data_collator=list, **arguments)
        self._feeder, self._batch = feeder, batch
        self._rows: Any = None
        self._batches: Iterator[dict[str, Any]] = iter(())
        self.model_accepts_loss_kwargs = False
        self._token_loss, self._human, self._held_out = token_loss, human, held_out
        self._human_every, self._sampler = human_every, sampler
        self._head = OutputHead(self.model)
        self._row_weights = row_weights

    def _get_train_sampler(self, train_dataset: Any = None) -> BucketSampler:
        return self._sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        assert self._held_out is not None
        return FedLoader(self._feeder, self._held_out, rows, self.args.eval_batch_size)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        if epoch_iterator is not self._rows:
            self._rows, self._batches = epoch_iterator, self._feeder.batches(self._batch, epoch_iterator)
        return super().get_batch_samples(self._batches, num_batches, device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        row, group, row_weight = (inputs.pop(name) for name in ("row", "group", "row_weight"))
        target_N, sequence_N, place = _supervised(inputs.pop("labels"))
        if not model.training:
            # What is compared over losses and steps is plain likelihood.
            total, outputs = self._loss_of(model, inputs, target_N, place, row, losses.build("mle"), None)
            loss = total / max(1, len(target_N))
            return (loss, outputs) if return_outputs else loss
        if self._human is not None and self._token_loss.adapts and self.state.global_step % self._human_every == 0:
            self._look(model)
        context = TokenContext(
            sequence_N=sequence_N, row_N=row[sequence_N], group_N=group[sequence_N], scale_N=row_weight[sequence_N]
        )
        total, outputs = self._loss_of(model, inputs, target_N, place, row, self._token_loss, context)
        self._note_weights(row, sequence_N)
        loss = total / max(1, len(target_N))
        return (loss, outputs) if return_outputs else loss

    def _loss_of(
        self,
        model: Any,
        inputs: dict[str, Any],
        target_N: Int[Tensor, " N"],
        place: tuple[Tensor, Tensor],
        row: Int[Tensor, " B"],
        loss: TokenLoss,
        context: TokenContext | None,
    ) -> tuple[Float[Tensor, ""], Any]:
        """The summed loss of a batch, without its logits where the output layer allows."""

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            summed: Tensor = linear_loss(
                hidden_BSD[place], weight_VD, target_N, loss, bias, context=context, reduction="sum"
            )
            return summed

        if self._head.replaceable:
            with self._head.replaced(instead):
                outputs = model(**inputs)
            total = outputs.logits
        else:
            outputs = model(**inputs)
            total = loss(outputs.logits[place], target_N, context).sum()
        if not torch.isfinite(total):
            raise FlywheelError(
                f"training: step {self.state.global_step}: the loss of rows {row.tolist()} is not finite. "
                "Lower the learning rate or look at these clips."
            )
        return total, outputs

    def _look(self, model: Any) -> None:
        """Show the loss people's texts, the same with noise words, and held-out ones.

        All in eval mode; a different part of them each time where there are many.
        """
        assert self._human is not None
        model.eval()
        with torch.no_grad():
            for batch in self._shown(self._human):
                self._show(model, batch, self._token_loss.observe_human)
                for corrupted in self._corrupted(batch):
                    self._show(model, corrupted, self._token_loss.observe_corrupted)
            for batch in self._shown(self._held_out):
                self._show(model, batch, self._token_loss.observe_source)
        model.train()

    def _shown(self, collator: Collator | None) -> Iterator[dict[str, Any]]:
        """Batches of the texts to show at this step; none without a collator."""
        if collator is None:
            return
        rows = list(range(len(collator)))
        if len(rows) > _MOST_SHOWN:
            rows = (
                np.random.default_rng([self.args.seed, self.state.global_step]).permutation(rows)[:_MOST_SHOWN].tolist()
            )
        size = self.args.per_device_train_batch_size
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        for batch in self._feeder.batches(collator, chunks):
            yield self._prepare_inputs(batch)

    def _corrupted(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The batch with noise words in place of some of its own, as inputs and as targets; the loss chooses them."""
        target_N, sequence_N, (row_N, column_N) = _supervised(batch["labels"])
        for number, replaced_N in self._token_loss.corrupted(target_N, TokenContext(sequence_N=sequence_N)):
            out = {**batch, "input_ids": batch["input_ids"].clone(), "labels": batch["labels"].clone()}
            out["input_ids"][row_N, column_N + 1] = out["labels"][row_N, column_N + 1] = replaced_N
            out["group"] = torch.full_like(batch["group"], number)
            yield out

    def _show(self, model: Any, batch: dict[str, Any], observe: Callable[[Tensor, Tensor, TokenContext], None]) -> None:
        batch = dict(batch)
        group, labels_BS, *_ = (batch.pop(name) for name in ("group", "labels", "row", "row_weight"))
        target_N, sequence_N, place = _supervised(labels_BS)

        def observe_text(logits_NV: Tensor, text_N: Tensor) -> None:
            sequence = sequence_N[text_N]
            observe(logits_NV, target_N[text_N], TokenContext(sequence_N=sequence, group_N=group[sequence]))

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            # Text by text: the logits of one are all that is held.
            for index in torch.unique(sequence_N):
                text_N = sequence_N == index
                observe_text(torch.nn.functional.linear(hidden_BSD[place][text_N], weight_VD, bias), text_N)
            return hidden_BSD.new_zeros(())

        if self._head.replaceable:
            with self._head.replaced(instead):
                model(**batch)
        else:
            observe_text(model(**batch).logits[place], torch.ones_like(sequence_N, dtype=torch.bool))

    def _note_weights(self, row: Int[Tensor, " B"], sequence_N: Int[Tensor, " N"]) -> None:
        weight_N = self._token_loss.last_weight_N
        if weight_N is None:
            return
        sums = torch.zeros(len(row), dtype=weight_N.dtype).index_add_(0, sequence_N.cpu(), weight_N.cpu())
        counts = torch.bincount(sequence_N.cpu(), minlength=len(row)).clamp(min=1)
        self._row_weights.note(row, sums / counts, self.state.global_step)


def _supervised(
    labels_BS: Int[Tensor, "B S"],
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], tuple[Int[Tensor, " N"], Int[Tensor, " N"]]]:
    """Of the tokens that count: targets, which sequence each is of, and where in (B, S) they are predicted."""
    targets = labels_BS[:, 1:]
    row_N, column_N = (targets != IGNORED).nonzero(as_tuple=True)
    return targets[row_N, column_N], row_N, (row_N, column_N)


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
            if name in self._collators:
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
        if state.is_world_process_zero:
            checkpoints.save_reading(folder, {name: c.state() for name, c in self._collators.items()})
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
) -> TrainingResult:
    """Train ``vlm.model`` in place, going on from ``work_folder``'s last whole checkpoint where there is one.

    A resumed training gives the same weights, loss and row weights as one that was not interrupted.

    ``human`` are texts that people vouch for, against which adaptive losses measure the others. ``held_out``, texts of
    the same groups as ``data`` that are not trained on, are what is measured, and give the eval loss. ``label`` is the
    prefix of the figures that ``sink`` gets.

    Clips that can't be read are left out. Raises Unreadable where they are most, FlywheelError where the loss is not
    finite, UserError for bf16 weights and an optimizer that would not train them.
    """
    check_trained(vlm.model, plan.optimizer)
    memory.start(vlm.device)
    parts = [data, *([held_out] if held_out is not None else [])]
    names = {name for part in parts for name in columns_of(part.examples).groups} - {HUMAN}
    groups = {name: index for index, name in enumerate(sorted(names))}
    numbers = {**groups, HUMAN: -1}
    token_loss.prepare(num_groups=max(1, len(groups)))
    clock, row_weights = Clock(), RowWeights(len(data.examples))
    lengths = text_lengths(data.examples, builder.tokenizer)
    sampler = BucketSampler(data.examples, lengths, plan.batch_size, plan.seed, clock)
    keeper = _Keeper(token_loss, row_weights, groups, sink, label)
    collators = {"data": Collator(data, builder, numbers, clock, label)}
    if human:
        people = dict.fromkeys(columns_of(human.examples).groups, -1)
        collators["human"] = Collator(human, builder, people, None, f"{label}, anchors")
    if held_out:
        collators["held_out"] = Collator(held_out, builder, numbers, None, f"{label}, held-out clips")
    with progress(label, plan.num_steps) as bar, Feeder(vlm.device, plan.decoders) as feeder:
        trainer = _LossTrainer(
            model=vlm.model,
            args=_arguments(plan, work_folder),
            train_dataset=Rows(len(data.examples)),
            eval_dataset=Rows(len(held_out.examples)) if held_out else None,
            feeder=feeder,
            batch=collators["data"],
            optimizer_cls_and_kwargs=_own_optimizer(plan),
            callbacks=[keeper],
            token_loss=token_loss,
            human=collators.get("human"),
            held_out=collators.get("held_out"),
            human_every=plan.human_every,
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
    used = {"busy_share": busy_share, "peak_gib": memory.peak_gib(vlm.device)}
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
        unreadable={clip: why for c in collators.values() for clip, why in c.unreadable.items()},
    )


def _check_reading(collators: Iterable[Collator], work_folder: Path) -> None:
    """Raises Unreadable where a short training missed most of its clips; it begins anew the next time."""
    try:
        for collator in collators:
            collator.reading.check(ended=True)
    except Unreadable:
        for checkpoint in work_folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
        raise


def _own_optimizer(plan: TrainingPlan) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """Class and arguments of an optimizer of ours; None for transformers' AdamW."""
    if plan.optimizer != "adamw_sr":
        return None
    return RoundedAdamW, {"lr": plan.learning_rate, "seed": plan.seed}


def _arguments(plan: TrainingPlan, work_folder: Path) -> TrainingArguments:
    """The plan in transformers' words."""
    return TrainingArguments(
        output_dir=str(work_folder),
        max_steps=plan.num_steps,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.batch_size,
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
        use_cpu=not torch.cuda.is_available(),
        seed=plan.seed,
        data_seed=plan.seed,
    )


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
