"""Pretraining with a noise-robust loss, and PEFT fine-tuning on corrections."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from flywheel.core.config import Config
from flywheel.core.types import MetricSink
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm
from noise_control import losses
from trainers.data import TrainingSet
from trainers.training import TrainingPlan, TrainingResult, train

__all__ = ["TrainingPlan", "TrainingResult", "TrainingSet", "finetune", "pretrain", "train"]


def pretrain(
    vlm: Vlm, builder: InputBuilder, config: Config, data: TrainingSet, out: Path, *, sink: MetricSink,
    held_out: TrainingSet | None, human: TrainingSet | None,
) -> TrainingResult:  # fmt: skip
    """Train all weights (the vision tower's on request) with the configured loss; writes a model folder to ``out``."""
    plan, vision = config.pretrain, _vision_parameters(vlm.model)
    for parameter in vlm.model.parameters():
        parameter.requires_grad_(True)
    if plan.freeze_vision:
        for parameter in vision:
            parameter.requires_grad_(False)
    result = train(
        vlm, builder, data, losses.build(config.loss.name, **config.loss.arguments),
        TrainingPlan(
            num_steps=plan.num_steps, batch_size=plan.batch_size, learning_rate=plan.learning_rate,
            warmup_share=plan.warmup_share, weight_decay=plan.weight_decay, save_every=plan.save_every,
            gradient_checkpointing=plan.gradient_checkpointing, bf16=_bf16(config.main.precision),
            human_every=config.loss.human_every, seed=plan.seed,
        ),
        out.with_name(out.name + ".work"), sink=sink, label="pretrain", held_out=held_out, human=human,
    )  # fmt: skip
    _save_whole(out, lambda folder: (vlm.model.save_pretrained(folder), vlm.processor.save_pretrained(folder)))
    return result


def finetune(
    vlm: Vlm, builder: InputBuilder, config: Config, data: TrainingSet, out: Path, *, sink: MetricSink
) -> TrainingResult:
    """LoRA on corrections by plain maximum likelihood, through the model's own class; writes the adapter to ``out``."""
    from peft import LoraConfig, get_peft_model

    plan = config.finetune
    model = get_peft_model(
        vlm.model,
        LoraConfig(
            r=plan.lora_rank,
            lora_alpha=plan.lora_alpha,
            lora_dropout=plan.lora_dropout,
            target_modules=plan.target_modules,
        ),
    )
    tuned = Vlm(model=model, processor=vlm.processor, digest=vlm.digest, adapter_digest="")
    result = train(
        tuned, builder, data, losses.build("mle"),
        TrainingPlan(
            num_steps=plan.num_steps, batch_size=plan.batch_size, learning_rate=plan.learning_rate, seed=plan.seed,
            bf16=_bf16(config.main.precision), warmup_share=0.1, save_every=max(1, plan.num_steps),
        ),
        out.with_name(out.name + ".work"), sink=sink, label="finetune",
    )  # fmt: skip
    _save_whole(out, lambda folder: model.save_pretrained(folder, safe_serialization=True))
    if plan.merge:
        merged = model.merge_and_unload()
        _save_whole(
            out.with_name("merged"),
            lambda folder: (merged.save_pretrained(folder), vlm.processor.save_pretrained(folder)),
        )
    return result


def _bf16(precision: str) -> bool:
    import torch

    return precision == "bf16" or (precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def _vision_parameters(model: Any) -> list[Any]:
    """The vision tower with what projects it, by the names that transformers' families use."""
    marks = ("visual.", "vision_tower.", "vision_model.", "multi_modal_projector.", "connector.")
    return [p for name, p in model.named_parameters() if any(f".{mark}" in f".{name}" for mark in marks)]


def _save_whole(out: Path, save: Any) -> None:
    """A model folder appears whole or not at all."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save(temporary)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
