"""Pretraining with a noise-robust loss, and PEFT fine-tuning on corrections."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flywheel.core.config import Finetune, Loss, Pretrain
from flywheel.core.progress import say
from flywheel.core.types import MetricSink
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm, chosen_precision
from flywheel.models.merged import note_origin
from noise_control import losses
from trainers import checkpoints
from trainers.border import foreign_failures
from trainers.data import TrainingSet
from trainers.examples import ExampleTable
from trainers.lora import merged, with_adapter
from trainers.pair_loss import PairLoss
from trainers.ranks import num_ranks, this_rank
from trainers.rounding import to_bf16
from trainers.sharding import ALONE, Strategy, filled, forget_sharding, trained_weights
from trainers.training import TrainingPlan, TrainingResult, train
from trainers.weights import ROUNDED, Choice, check, choose, convert

__all__ = [
    "ExampleTable",
    "Strategy",
    "TrainingPlan",
    "TrainingResult",
    "TrainingSet",
    "finetune",
    "pretrain",
    "train",
]

#: Share of fine-tuning's steps that warm up: twice pretraining's default, since there are few steps, at a high rate.
_FINETUNE_WARMUP_SHARE = 0.1


@foreign_failures("pretrain")
def pretrain(
    vlm: Vlm,
    builder: InputBuilder,
    plan: Pretrain,
    loss: Loss,
    data: TrainingSet,
    out: Path,
    *,
    precision: str,
    sink: MetricSink,
    held_out: TrainingSet | None,
    human: TrainingSet | None,
    strategy: Strategy = ALONE,
    reload: Callable[[], Vlm] | None = None,
    features_bytes: int = 0,
) -> TrainingResult:
    """Train all weights (the vision tower's on request) with the configured loss; write a model folder to ``out``.

    ``precision`` is ``auto``, ``bf16`` or ``fp32``, as :func:`flywheel.models.load.chosen_precision` takes it: what
    products are computed in and what is written. ``plan.optimizer`` says which numbers are trained. With
    ``plan.method`` ``lora`` an adapter is trained and merged. Killed and called again it goes on from its last
    checkpoint, in ``out`` with the ending ``.work``.

    ``features_bytes`` is as in :class:`TrainingPlan`.

    Of several ranks all must call it, and the first writes. ``strategy`` says how they share the work; where it shards
    the weights, ``reload`` loads the same model whole, on the CPU.

    ``human`` and ``held_out`` are as in :func:`trainers.train`. Raises UserError for an unknown loss, an optimizer that
    does not go with the precision and checkpoints of another one, ValueError for arguments of the loss out of range,
    FlywheelError where the loss is not finite, BorderError where memory or the disk has no room.
    """
    work = out.with_name(out.name + ".work")
    compute = precision_for(plan.optimizer, precision)
    bf16 = _in_bf16(vlm.model)
    checkpoints.same_ranks(work, strategy.name, num_ranks())
    model, choice = _to_train(vlm.model, plan, compute, work, sharded=strategy.sharded)
    trained = Vlm(model=model, processor=vlm.processor, digest=vlm.digest, adapter_digest="")
    training_plan = TrainingPlan(
        num_steps=plan.num_steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        warmup_share=plan.warmup_share,
        weight_decay=plan.weight_decay,
        save_every=plan.save_every,
        log_every=plan.log_every,
        decoders=plan.decoders,
        gradient_checkpointing=plan.gradient_checkpointing,
        bf16=compute == "bf16",
        optimizer=choice.optimizer,
        parts=strategy.parts,
        deepspeed=strategy.deepspeed(),
        human_every=loss.human_every,
        features_bytes=features_bytes,
        seed=plan.seed,
    )
    token_loss = losses.build(loss.name, **loss.arguments)
    result = train(
        trained,
        builder,
        data,
        token_loss,
        training_plan,
        work,
        sink=sink,
        label="pretrain",
        held_out=held_out,
        human=human,
    )

    def marked(whole: Any) -> Any:
        bf16[:] = _in_bf16(whole)
        return mark_trained(whole, plan)

    if (model := _to_write(model, strategy, reload, marked)) is None:
        return result
    if plan.method == "lora":
        model = merged(model, plan.seed)
    # Written as they were loaded: masters are of no use to who serves them.
    to_bf16(bf16, plan.seed)
    _save_whole(out, model.save_pretrained, vlm.processor.save_pretrained)
    return result


def precision_for(optimizer: str, precision: str) -> str:
    """``bf16`` or ``fp32``: the precision, of which ``auto`` is what the optimizer asks for, else what there is."""
    return "bf16" if optimizer in ROUNDED and precision == "auto" else chosen_precision(precision)


def check_optimizer(optimizer: str, precision: str) -> None:
    """Check that an optimizer goes with a precision (``auto``, ``bf16``, ``fp32``) here. Raises UserError."""
    check(optimizer, precision_for(optimizer, precision))


def mark_trained(model: Any, plan: Pretrain) -> Any:
    """The model with what pretraining trains marked: its weights, or those of a new adapter on it."""
    if plan.method == "lora":
        return with_adapter(
            model, rank=plan.lora_rank, alpha=plan.lora_alpha, dropout=0.0, target_modules=plan.target_modules
        )
    _set_trainable(model, vision=not plan.freeze_vision)
    return model


def _to_train(model: Any, plan: Pretrain, precision: str, work: Path, *, sharded: bool = False) -> tuple[Any, Choice]:
    """The model with what is to be trained marked and in its numbers, and the optimizer that was chosen."""
    if plan.method == "lora":
        # An adapter begins with random weights: killed before its first checkpoint, it must begin with the same ones.
        torch.manual_seed(plan.seed)
        choice = checkpoints.same_choice(work, plan, Choice(optimizer="adamw", reason="an adapter's weights are fp32"))
        return mark_trained(model, plan), choice
    mark_trained(model, plan)
    choice = checkpoints.same_choice(work, plan, choose(plan.optimizer, precision, model, sharded=sharded))
    if this_rank() == 0:
        say(f"pretrain: optimizer {choice.optimizer}: {choice.reason}.")
    if not sharded:
        convert(model, choice.dtype)
    return model, choice


@foreign_failures("finetune")
def finetune(
    vlm: Vlm,
    builder: InputBuilder,
    plan: Finetune,
    data: TrainingSet,
    out: Path,
    *,
    precision: str,
    sink: MetricSink,
    strategy: Strategy = ALONE,
    reload: Callable[[], Vlm] | None = None,
    pairs: TrainingSet | None = None,
    features_bytes: int = 0,
) -> TrainingResult:
    """Train a LoRA on corrections by plain maximum likelihood, and on pairs by DPO; write the adapter to ``out``.

    ``pairs`` holds each pair's better text and behind it the worse one; ``data`` may then be without texts. The
    reference is the model without the adapter: none is loaded beside it. With pairs nothing is dropped out, since the
    model is compared with itself.

    The adapter's files name no place, so the same training gives the same adapter in any folder. With ``plan.merge``
    the merged weights are written beside it, to the folder ``merged``. ``precision``, several ranks, ``features_bytes``
    and resuming are as in :func:`pretrain`. Raises FlywheelError where the loss is not finite, BorderError where memory
    or the disk has no room.
    """
    if pairs is not None:
        plan = plan.model_copy(update={"lora_dropout": 0.0})
    model = _with_adapter(vlm.model, plan)
    tuned = Vlm(model=model, processor=vlm.processor, digest=vlm.digest, adapter_digest="")
    training_plan = TrainingPlan(
        num_steps=plan.num_steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        warmup_share=_FINETUNE_WARMUP_SHARE,
        save_every=plan.save_every,
        features_bytes=features_bytes,
        bf16=chosen_precision(precision) == "bf16",
        parts=strategy.parts,
        deepspeed=strategy.deepspeed(),
        seed=plan.seed,
    )
    work = out.with_name(out.name + ".work")
    checkpoints.same_ranks(work, strategy.name, num_ranks())
    what = "+".join([*(["texts"] if data.examples else []), *(["pairs"] if pairs is not None else [])])
    checkpoints.same_texts(work, what)
    loss = losses.build("mle") if pairs is None else PairLoss(beta=plan.beta, weight=_pairs_weight(plan, data))
    result = train(tuned, builder, data, loss, training_plan, work, sink=sink, label="finetune", pairs=pairs)
    if (model := _to_write(model, strategy, reload, lambda whole: _with_adapter(whole, plan))) is None:
        return result
    _save_whole(out, model.save_pretrained, _forget_places)
    if plan.merge:
        whole = merged(model, plan.seed)
        note = partial(note_origin, model=vlm.digest, adapter=out)
        _save_whole(out.with_name("merged"), whole.save_pretrained, vlm.processor.save_pretrained, note)
    return result


def _pairs_weight(plan: Finetune, data: TrainingSet) -> float:
    """The weight of the pairs' loss: alone they have all of it."""
    return plan.pair_weight if data.examples else 1.0


def _in_bf16(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.dtype == torch.bfloat16]


def _to_write(
    model: Any, strategy: Strategy, reload: Callable[[], Vlm] | None, mark: Callable[[Any], Any]
) -> Any | None:
    """The whole model with what it learned, for the rank that writes; None for the others. Every rank must ask."""
    values = trained_weights(model, keep=this_rank() == 0) if strategy.sharded else {}
    if this_rank() != 0:
        return None
    if not strategy.sharded:
        return model
    if reload is None:
        raise ValueError("a sharded training needs a way to load its model whole")
    forget_sharding()
    return filled(mark(reload().model), values)


def _with_adapter(model: Any, plan: Finetune) -> Any:
    return with_adapter(
        model,
        rank=plan.lora_rank,
        alpha=plan.lora_alpha,
        dropout=plan.lora_dropout,
        target_modules=plan.target_modules,
    )


def _set_trainable(model: Any, *, vision: bool) -> None:
    """Let all weights be trained, those of the vision tower only with ``vision``."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for parameter in _vision_parameters(model):
        parameter.requires_grad_(vision)


def _vision_parameters(model: Any) -> list[Any]:
    """The weights of the vision tower and its projector, by the names that transformers' families use."""
    marks = ("visual.", "vision_tower.", "vision_model.", "multi_modal_projector.", "connector.")
    return [p for name, p in model.named_parameters() if any(f".{mark}" in f".{name}" for mark in marks)]


def _forget_places(folder: Path) -> None:
    """Take out of an adapter's config where its base lies: its hash decides on keys and seeds, in any folder alike."""
    file = folder / "adapter_config.json"
    values = {**json.loads(file.read_text()), "base_model_name_or_path": None}
    file.write_text(json.dumps(values, indent=2, sort_keys=True))


def _save_whole(out: Path, *savers: Callable[[Path], Any]) -> None:
    """Let savers write a folder that appears whole or not at all."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for save in savers:
        save(temporary)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
