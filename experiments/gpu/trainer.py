"""What ``trainers.train`` takes beyond the plain step at 2 B parameters: feeding, optimizer, looks, bookkeeping.

Lines: the plain step (forward and backward of batches that are on the device), the same with the optimizer, what
preparing a batch takes on one thread, and the step of ``trainers.train`` with its busy share. The bar: 1.1 times the
plain step.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from _part import Part

STEPS, PLAIN_STEPS = 16, 8


class Silent:
    """Where figures go that nobody reads."""

    def log(self, values: Any, step: int) -> None:
        """Nothing is kept."""


def main(part: Part) -> None:
    """Measure the plain step, then trainings of two optimizers and two losses as far as there is time."""
    part.need_gpu()
    import torch
    from _step import Step, free
    from _vlm import clip, new_model, new_processor, sizes, texts

    from flywheel.models.inputs import InputBuilder
    from flywheel.models.load import Vlm

    wanted = sizes(tiny=part.tiny)
    processor = new_processor(wanted)
    steps, plain_steps = (3, 2) if part.tiny else (STEPS, PLAIN_STEPS)
    builder = InputBuilder(processor, keep_bytes=0)
    captions = texts(wanted.clips * 2)
    prepared, batches = [], []
    for start in (0, wanted.clips):
        numbers = range(start, start + wanted.clips)
        began = time.perf_counter()
        clips = [clip(str(number), wanted) for number in numbers]
        batch = builder.build(clips, ["Describe."] * wanted.clips, [captions[number] for number in numbers])
        prepared.append(time.perf_counter() - began)
        batches.append({name: value.to(part.device) for name, value in batch.items()})
    part.line("preparing a batch", seconds=min(prepared), clips=wanted.clips, frames=wanted.frames, side=wanted.side)
    model = new_model(part.device, tiny=part.tiny)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    plain = {}
    with part.case("plain step"):
        step, seconds = Step(model), []
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=part.device == "cuda")
        both = []
        for number in range(2 + plain_steps):
            began = step.now()
            with torch.autocast(part.device, torch.bfloat16, enabled=not part.tiny):
                step(batches[number % 2])
            middle = step.now()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(middle - began)
            both.append(step.now() - began)
        plain = {"seconds": statistics.median(seconds[2:]), "with_optimizer": statistics.median(both[2:])}
        part.line("plain step", n=plain_steps, precision="fp32 masters, bf16 autocast", **plain)
        del optimizer, step
    del batches
    vlm = Vlm(model=model, processor=processor, digest="", adapter_digest="")
    with part.case("warm-up"):
        # What the first training compiles and allocates is not what is compared.
        train(vlm, "adamw_masters", "mle", wanted, 5, clip, texts)
    for way, loss in (("adamw_masters", "mle"), ("adamw_masters", "adatailr"), ("adamw_sr", "mle")):
        free(part.device)
        if part.seconds_left() < (-60 if part.tiny else 3 + 1.5 * STEPS * plain.get("with_optimizer", 0.6)):
            part.line("trainers.train", optimizer=way, token_loss=loss, not_measured="no time was left")
            continue
        with part.case("trainers.train", optimizer=way, token_loss=loss):
            figures = train(vlm, way, loss, wanted, steps, clip, texts)
            names = {"seconds": "to_plain", "with_optimizer": "to_plain_with_optimizer"}
            ratios = {names[name]: figures["seconds_a_step"] / seconds for name, seconds in plain.items()}
            part.line("trainers.train", optimizer=way, token_loss=loss, **ratios, **figures)


def train(vlm: Any, way: str, loss: str, wanted: Any, steps: int, clip: Any, texts: Any) -> dict[str, Any]:
    """Train through ``trainers.train``, each clip new; its figures."""
    import torch

    import trainers.training
    from flywheel.core.types import HUMAN, Example
    from flywheel.models.inputs import InputBuilder
    from flywheel.models.prompt import Prompt
    from noise_control import losses
    from trainers.weights import convert

    convert(vlm.model, torch.bfloat16 if way == "adamw_sr" else torch.float32)
    prompt = Prompt(name="p", version=1, kind="caption", instruction="Describe.", hints={})

    def data(first: int, count: int, group: str) -> Any:
        rows = [
            Example(clip_id=str(first + number), text=text, group=group) for number, text in enumerate(texts(count))
        ]
        return trainers.TrainingSet(
            examples=rows, input=lambda key: clip(key, wanted), prompt=prompt, dropout={}, seed=0
        )

    token_loss, times = losses.build(loss), []
    original = token_loss.step

    def step(*arguments: Any) -> None:
        times.append(time.perf_counter())
        original(*arguments)

    token_loss.step = step  # type: ignore[method-assign]
    plan = trainers.TrainingPlan(
        num_steps=steps,
        batch_size=wanted.clips,
        learning_rate=1e-5,
        gradient_checkpointing=True,
        bf16=vlm.device.type == "cuda",
        optimizer=way,
        save_every=10**6,
        human_every=max(1, steps // 2),
    )
    looks = {"human": data(50_000, 8, HUMAN), "held_out": data(60_000, 8, "g")} if loss == "adatailr" else {}
    # 25 GiB of checkpoint after the last step are not what is measured.
    trainers.training.LossTrainer._save_checkpoint = lambda *_, **__: None
    trainers.training._Keeper.on_save = lambda *_, **__: None
    with tempfile.TemporaryDirectory() as folder:
        result = trainers.train(
            vlm,
            InputBuilder(vlm.processor),
            data(0, steps * wanted.clips, "g"),
            token_loss,
            plan,
            Path(folder),
            sink=Silent(),
            label="t",
            **looks,
        )
    skipped = min(3, len(times) - 2)  # The first steps warm up.
    vlm.model.train()
    return {
        "steps": result.steps,
        "loss": result.loss,
        "seconds_a_step": (times[-1] - times[skipped]) / (len(times) - 1 - skipped),
        "median_step": statistics.median(b - a for a, b in zip(times[skipped:], times[skipped + 1 :], strict=False)),
        "busy_share": result.busy_share,
        "peak_gib": result.peak_gib,
        "eval_loss": result.eval_loss,
    }


if __name__ == "__main__":
    main(Part(__doc__))
