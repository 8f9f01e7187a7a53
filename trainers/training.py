"""Training with transformers' Trainer and our loss: one loop for pretraining and fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from flywheel.core.errors import FlywheelError
from flywheel.core.progress import Progress, progress
from flywheel.core.types import HUMAN, MetricSink
from flywheel.models.inputs import IGNORED, InputBuilder
from flywheel.models.load import Vlm
from noise_control import TokenContext, TokenLoss, linear_loss, losses
from trainers.data import BucketSampler, Clock, Collator, TrainingSet, _Rows
from trainers.head import OutputHead

_COMPLETE = "complete"
#: Texts of people, and as many held-out ones, that an adaptive loss is shown at a time; more would cost a large model more than
#: they tell.
_MOST_SHOWN = 128
_LOSS_STATE = "loss_state.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train; steps are optimizer steps."""

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    save_every: int = 100
    gradient_checkpointing: bool = False
    bf16: bool = False
    human_every: int = 25
    seed: int = 0
    log_every: int = 25


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """``row_weight`` is the mean token weight at each row's last visit (row -> [0, 1]): low is suspected noise."""

    steps: int
    loss: float
    eval_loss: float | None
    row_weight: Mapping[int, float]
    figures: Mapping[str, float]


class _LossTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with a token loss of ours."""

    def __init__(
        self, *, token_loss: TokenLoss, human: Collator | None, held_out: Collator | None, human_every: int, sampler: BucketSampler,
        **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self._token_loss, self._human, self._held_out = token_loss, human, held_out
        self._human_every, self._sampler = human_every, sampler
        self._head = OutputHead(self.model)
        self.row_weight: dict[int, float] = {}

    def _get_train_sampler(self, train_dataset: Any = None) -> BucketSampler:
        return self._sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        return torch.utils.data.DataLoader(rows, batch_size=self.args.eval_batch_size, collate_fn=self._held_out)

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
        self, model: Any, inputs: dict[str, Any], target_N: Tensor, place: tuple[Tensor, Tensor], row: Tensor, loss: TokenLoss,
        context: TokenContext | None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
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
        """Score people's texts and held-out ones, a different part of them each time where there are many."""
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
        if collator is None:
            return
        rows = list(range(len(collator)))
        if len(rows) > _MOST_SHOWN:
            rows = (
                np.random.default_rng([self.args.seed, self.state.global_step]).permutation(rows)[:_MOST_SHOWN].tolist()
            )
        size = self.args.per_device_train_batch_size
        for start in range(0, len(rows), size):
            yield self._prepare_inputs(collator(rows[start : start + size]))

    def _corrupted(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """People's texts with noise words that the loss chose in place of some of theirs, as inputs and as targets."""
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

        def observe_text(logits_NV: Tensor, own_N: Tensor) -> None:
            sequence = sequence_N[own_N]
            observe(logits_NV, target_N[own_N], TokenContext(sequence_N=sequence, group_N=group[sequence]))

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            # Text by text: the logits of one are all that is held.
            for index in torch.unique(sequence_N):
                own_N = sequence_N == index
                observe_text(torch.nn.functional.linear(hidden_BSD[place][own_N], weight_VD, bias), own_N)
            return hidden_BSD.new_zeros(())

        if self._head.replaceable:
            with self._head.replaced(instead):
                model(**batch)
        else:
            observe_text(model(**batch).logits[place], torch.ones_like(sequence_N, dtype=torch.bool))

    def _note_weights(self, row: torch.Tensor, sequence_N: torch.Tensor) -> None:
        weight_N = self._token_loss.last_weight_N
        if weight_N is None:
            return
        sums = torch.zeros(len(row), dtype=weight_N.dtype).index_add_(0, sequence_N.cpu(), weight_N.cpu())
        counts = torch.bincount(sequence_N.cpu(), minlength=len(row)).clamp(min=1)
        self.row_weight.update(zip(row.tolist(), (sums / counts).tolist(), strict=True))


def _supervised(labels_BS: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Of the tokens that count: their targets and which sequence each is of, (N,), and where in (B, S) they are predicted."""
    targets = labels_BS[:, 1:]
    row_N, column_N = (targets != IGNORED).nonzero(as_tuple=True)
    return targets[row_N, column_N], row_N, (row_N, column_N)


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Steps the loss, saves its state with each checkpoint, marks whole checkpoints, reports."""

    def __init__(
        self, token_loss: TokenLoss, groups: Mapping[str, int], sink: MetricSink, prefix: str, bar: Progress
    ) -> None:
        self._loss, self._groups, self._sink, self._prefix, self._bar = token_loss, groups, sink, prefix, bar

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.step(_all_reduce if torch.distributed.is_initialized() else None)
        self._bar.advance()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_file(
            {name: table.cpu().contiguous() for name, table in self._loss.state_dict().items()}, folder / _LOSS_STATE
        )
        # Written last: a checkpoint without it was cut off and is not gone on from.
        (folder / _COMPLETE).touch()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        values = {
            k: float(v) for k, v in (logs or {}).items() if k in ("loss", "eval_loss", "learning_rate", "grad_norm")
        }
        values.update(_named(self._loss.figures(), self._groups))
        self._sink.log({f"{self._prefix}/{name}": value for name, value in values.items()}, state.global_step)


def _all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    # Some rules count on the CPU, where NCCL can't add.
    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.distributed.get_backend() == "nccl"
        else tensor.device
    )
    summed = tensor.to(device, copy=True)
    torch.distributed.all_reduce(summed)
    return summed.to(tensor.device)


def _named(figures: Mapping[str, float], groups: Mapping[str, int]) -> dict[str, float]:
    """A loss's figures, with the groups' names for their numbers."""
    by_index = {str(index): name for name, index in groups.items()}
    out = {}
    for name, value in figures.items():
        what, slash, index = name.rpartition("/")
        if not slash:
            out[name] = value
        elif index in by_index:  # A loss has room for one group at least, and all texts may be people's.
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

    ``human`` are the texts that adaptive losses measure the others against; ``held_out``, texts of the same groups as ``data``
    that are not trained on, are what is measured, and give the eval loss. Raises FlywheelError where the model's output is not
    finite.
    """
    seen = [*data.examples, *(held_out.examples if held_out is not None else [])]
    groups = {name: index for index, name in enumerate(sorted({e.group for e in seen} - {HUMAN}))}
    numbers = {**groups, HUMAN: -1}
    token_loss.prepare(num_groups=max(1, len(groups)))
    clock = Clock()
    lengths = [len(builder.tokenizer.encode(e.text, add_special_tokens=False)) for e in data.examples]
    arguments = TrainingArguments(
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
    with progress(label, plan.num_steps) as bar:
        trainer = _LossTrainer(
            model=vlm.model,
            args=arguments,
            train_dataset=_Rows(len(data.examples)),
            eval_dataset=_Rows(len(held_out.examples)) if held_out else None,
            data_collator=Collator(data, builder, numbers, clock),
            callbacks=[_Keeper(token_loss, groups, sink, label, bar)],
            token_loss=token_loss,
            human=Collator(human, builder, {e.group: -1 for e in human.examples}, None) if human else None,
            held_out=Collator(held_out, builder, numbers, None) if held_out else None,
            human_every=plan.human_every,
            sampler=BucketSampler(data.examples, lengths, plan.batch_size, plan.seed, clock),
        )
        trainer.remove_callback(_printer())
        checkpoint = last_checkpoint(work_folder)
        if checkpoint is not None:
            token_loss.load_state_dict(load_file(checkpoint / _LOSS_STATE, device=str(vlm.device)))
            bar.advance(int(checkpoint.name.rpartition("-")[2]))
        output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    eval_loss = trainer.evaluate()["eval_loss"] if held_out is not None and held_out.examples else None
    vlm.model.eval()
    return TrainingResult(
        steps=output.global_step,
        loss=float(output.training_loss),
        eval_loss=eval_loss,
        row_weight=trainer.row_weight,
        figures=_named(token_loss.figures(), groups),
    )


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def last_checkpoint(work_folder: Path) -> Path | None:
    """The newest whole checkpoint; ones that were cut off are removed."""
    whole = []
    for folder in work_folder.glob("checkpoint-*"):
        if (folder / _COMPLETE).exists():
            whole.append((int(folder.name.rpartition("-")[2]), folder))
        else:
            shutil.rmtree(folder)
    return max(whole)[1] if whole else None
