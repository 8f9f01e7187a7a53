"""Training with transformers' Trainer and our loss: one loop for pretraining and fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
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
from flywheel.core.types import MetricSink
from flywheel.models.inputs import IGNORED, InputBuilder
from flywheel.models.load import Vlm
from noise_control import TokenContext, TokenLoss, linear_loss, losses
from trainers.data import BucketSampler, Clock, Collator, TrainingSet, _Rows
from trainers.head import OutputHead

_COMPLETE = "complete"
#: The group of texts that people gave: no loss doubts them.
HUMAN = "human"
#: People's texts that an adaptive loss is shown at a time; more would cost a large model more than they tell.
_MOST_HUMAN_ROWS = 256
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
        self, *, token_loss: TokenLoss, human: Collator | None, human_rows: list[int], human_every: int, sampler: BucketSampler,
        eval_collator: Collator | None, **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self._token_loss, self._human, self._human_rows = token_loss, human, human_rows
        self._human_every, self._sampler = human_every, sampler
        self._eval_collator = eval_collator
        self._head = OutputHead(self.model)
        self.row_weight: dict[int, float] = {}

    def _get_train_sampler(self, train_dataset: Any = None) -> BucketSampler:
        return self._sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        return torch.utils.data.DataLoader(rows, batch_size=self.args.eval_batch_size, collate_fn=self._eval_collator)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        row, group, row_weight = (inputs.pop(name) for name in ("row", "group", "row_weight"))
        target_N, sequence_N, place = _supervised(inputs.pop("labels"))
        if not model.training:
            # What is compared over losses and steps is plain likelihood.
            total, outputs = self._loss_of(model, inputs, target_N, place, losses.build("mle"), None)
            loss = total / max(1, len(target_N))
            return (loss, outputs) if return_outputs else loss
        if self._human is not None and self._token_loss.adapts and self.state.global_step % self._human_every == 0:
            self._look_at_human(model)
        context = TokenContext(
            sequence_N=sequence_N, row_N=row[sequence_N], group_N=group[sequence_N], scale_N=row_weight[sequence_N]
        )
        total, outputs = self._loss_of(model, inputs, target_N, place, self._token_loss, context)
        if not torch.isfinite(total):
            raise FlywheelError(
                f"training: step {self.state.global_step}: the loss of rows {row.tolist()} is not finite. "
                "Lower the learning rate or look at these clips."
            )
        self._note_weights(row, sequence_N)
        loss = total / max(1, len(target_N))
        return (loss, outputs) if return_outputs else loss

    def _loss_of(
        self, model: Any, inputs: dict[str, Any], target_N: Tensor, place: tuple[Tensor, Tensor], loss: TokenLoss,
        context: TokenContext | None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """The summed loss of a batch, without its logits where the output layer allows."""
        if not self._head.replaceable:
            outputs = model(**inputs)
            return loss(outputs.logits[place], target_N, context).sum(), outputs

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            summed: Tensor = linear_loss(hidden_BSD[place], weight_VD, target_N, loss, bias, context=context, reduction="sum")
            return summed

        with self._head.replaced(instead):
            outputs = model(**inputs)
        return outputs.logits, outputs

    def _look_at_human(self, model: Any) -> None:
        """Score people's texts, a different part of them each time where there are many."""
        assert self._human is not None
        rows = self._human_rows
        if len(rows) > _MOST_HUMAN_ROWS:
            rows = np.random.default_rng([self.args.seed, self.state.global_step]).permutation(rows)[:_MOST_HUMAN_ROWS].tolist()
        model.eval()
        with torch.no_grad():
            size = self.args.per_device_train_batch_size
            for start in range(0, len(rows), size):
                batch = self._prepare_inputs(self._human(rows[start : start + size]))
                for name in ("row", "group", "row_weight"):
                    batch.pop(name)
                self._show_human(model, batch)
        model.train()

    def _show_human(self, model: Any, batch: dict[str, Any]) -> None:
        target_N, sequence_N, place = _supervised(batch.pop("labels"))
        if not self._head.replaceable:
            self._token_loss.observe_human(model(**batch).logits[place], target_N, TokenContext(sequence_N=sequence_N))
            return

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            # Text by text: the logits of one are all that is held.
            for index in torch.unique(sequence_N):
                own = sequence_N == index
                logits_NV = torch.nn.functional.linear(hidden_BSD[place][own], weight_VD, bias)
                self._token_loss.observe_human(logits_NV, target_N[own], TokenContext(sequence_N=sequence_N[own]))
            return hidden_BSD.new_zeros(())

        with self._head.replaced(instead):
            model(**batch)

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

    def __init__(self, token_loss: TokenLoss, sink: MetricSink, prefix: str, bar: Progress) -> None:
        self._loss, self._sink, self._prefix, self._bar = token_loss, sink, prefix, bar

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.step(_all_reduce if torch.distributed.is_initialized() else None)
        self._bar.advance()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_file({name: table.cpu().contiguous() for name, table in self._loss.state_dict().items()}, folder / _LOSS_STATE)
        # Written last: a checkpoint without it was cut off and is not gone on from.
        (folder / _COMPLETE).touch()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        values = {k: float(v) for k, v in (logs or {}).items() if k in ("loss", "eval_loss", "learning_rate", "grad_norm")}
        values.update(self._loss.figures())
        self._sink.log({f"{self._prefix}/{name}": value for name, value in values.items()}, state.global_step)


def _all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    torch.distributed.all_reduce(tensor)
    return tensor


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

    ``held_out`` gives the eval loss, ``human`` the texts that adaptive losses measure themselves against. Raises
    FlywheelError where the model's output is not finite.
    """
    groups = {name: index for index, name in enumerate(sorted({e.group for e in data.examples} - {HUMAN}))}
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
            data_collator=Collator(data, builder, {**groups, HUMAN: -1}, clock),
            callbacks=[_Keeper(token_loss, sink, label, bar)],
            token_loss=token_loss,
            human=Collator(human, builder, {e.group: 0 for e in human.examples}, None) if human else None,
            human_rows=list(range(len(human.examples))) if human else [],
            human_every=plan.human_every,
            sampler=BucketSampler(lengths, plan.batch_size, plan.seed, clock),
            eval_collator=Collator(held_out, builder, {e.group: 0 for e in held_out.examples}, None) if held_out else None,
        )
        trainer.remove_callback(_printer())
        checkpoint = last_checkpoint(work_folder)
        if checkpoint is not None:
            token_loss.load_state_dict(load_file(checkpoint / _LOSS_STATE, device=str(vlm.device)))
            bar.advance(int(checkpoint.name.rpartition("-")[2]))
        output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    eval_loss = trainer.evaluate()["eval_loss"] if held_out is not None and held_out.examples else None
    vlm.model.eval()
    by_index = {str(index): name for name, index in groups.items()}
    named = {}
    for name, value in token_loss.figures().items():
        what, slash, index = name.rpartition("/")
        named[f"{what}/{by_index[index]}" if slash else name] = value
    return TrainingResult(
        steps=output.global_step,
        loss=float(output.training_loss),
        eval_loss=eval_loss,
        row_weight=trainer.row_weight,
        figures=named,
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
