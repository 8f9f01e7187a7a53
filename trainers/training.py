"""Training with transformers' Trainer and our loss: one loop for pretraining and fine-tuning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from flywheel.core.errors import FlywheelError
from flywheel.core.progress import Progress, progress
from flywheel.core.types import MetricSink
from flywheel.models.inputs import IGNORED, InputBuilder
from flywheel.models.load import Vlm
from noise_control import TokenContext, TokenLoss
from trainers.data import BucketSampler, Clock, Collator, TrainingSet, _Rows

_COMPLETE = "complete"
_LOSS_STATE = "loss_state.json"


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
        self.row_weight: dict[int, float] = {}

    def _get_train_sampler(self, train_dataset: Any = None) -> BucketSampler:
        return self._sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        return torch.utils.data.DataLoader(rows, batch_size=self.args.eval_batch_size, collate_fn=self._eval_collator)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        row, group, row_weight = (inputs.pop(name) for name in ("row", "group", "row_weight"))
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits_NV, target_N, sequence_N = _supervised(outputs.logits, labels)
        if not torch.isfinite(logits_NV).all():
            raise FlywheelError(
                f"training: step {self.state.global_step}: the logits of rows {row.tolist()} are not finite. "
                "Lower the learning rate or look at these clips."
            )
        if not model.training:
            # What is compared over losses and steps is plain likelihood.
            loss = torch.nn.functional.cross_entropy(logits_NV.float(), target_N)
            return (loss, outputs) if return_outputs else loss
        if self._human is not None and self.state.global_step % self._human_every == 0:
            self._look_at_human(model)
        context = TokenContext(sequence_N=sequence_N, group_N=group[sequence_N])
        loss_N = self._token_loss(logits_NV, target_N, context) * row_weight[sequence_N]
        self._note_weights(row, sequence_N)
        return loss_N.sum() / max(1, len(target_N))

    def _look_at_human(self, model: Any) -> None:
        assert self._human is not None
        model.eval()
        with torch.no_grad():
            size = self.args.per_device_train_batch_size
            for start in range(0, len(self._human_rows), size):
                batch = self._prepare_inputs(self._human(self._human_rows[start : start + size]))
                for name in ("row", "group", "row_weight"):
                    batch.pop(name)
                labels = batch.pop("labels")
                logits_NV, target_N, _ = _supervised(model(**batch).logits, labels)
                self._token_loss.observe_human(logits_NV, target_N)
        model.train()

    def _note_weights(self, row: torch.Tensor, sequence_N: torch.Tensor) -> None:
        weight_N = self._token_loss.last_weight_N
        if weight_N is None:
            return
        sums = torch.zeros(len(row), dtype=weight_N.dtype).index_add_(0, sequence_N.cpu(), weight_N.cpu())
        counts = torch.bincount(sequence_N.cpu(), minlength=len(row)).clamp(min=1)
        self.row_weight.update(zip(row.tolist(), (sums / counts).tolist(), strict=True))


def _supervised(logits_BSV: torch.Tensor, labels_BS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and targets of the tokens that count, (N, V) and (N,), and which sequence each is of, (N,)."""
    targets = labels_BS[:, 1:]
    mask = targets != IGNORED
    return logits_BSV[:, :-1][mask], targets[mask], mask.nonzero()[:, 0]


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Steps the loss, saves its state with each checkpoint, marks whole checkpoints, reports."""

    def __init__(self, token_loss: TokenLoss, sink: MetricSink, prefix: str, bar: Progress) -> None:
        self._loss, self._sink, self._prefix, self._bar = token_loss, sink, prefix, bar

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.step(_all_reduce if torch.distributed.is_initialized() else None)
        self._bar.advance()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / _LOSS_STATE).write_text(json.dumps(self._loss.state_dict()))
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
    groups = {name: index for index, name in enumerate(sorted({e.group for e in data.examples}))}
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
            data_collator=Collator(data, builder, groups, clock),
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
            token_loss.load_state_dict(json.loads((checkpoint / _LOSS_STATE).read_text()))
            bar.advance(int(checkpoint.name.rpartition("-")[2]))
        output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    eval_loss = trainer.evaluate()["eval_loss"] if held_out is not None and held_out.examples else None
    vlm.model.eval()
    figures = dict(token_loss.figures())
    named = {f"noise_rate/{name}": figures[f"noise_rate/{i}"] for name, i in groups.items() if f"noise_rate/{i}" in figures}
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
