"""What an optimizer in little memory learns, at 2 B parameters: bf16 weights, fp32 masters, bf16 rounded at random.

Each way begins with the same weights and sees the same batches. Lines: the losses, their mean over the first and the
last four steps, the share of weights that are not what they were, the peak of memory, seconds a step and of them the
optimizer's.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from _part import Part

STEPS, RATE, BATCHES = 40, 1e-5, 8
#: Of each tensor every so many-th weight is looked at for a change.
STRIDE = 997


def main(part: Part) -> None:
    """Run the three ways, as many steps as the time allows, the same number each."""
    part.need_gpu()
    import torch
    from _vlm import clip, new_processor, sizes, texts

    from flywheel.models.inputs import InputBuilder
    from trainers.rounding import RoundedAdamW

    wanted = sizes(tiny=part.tiny)
    builder = InputBuilder(new_processor(wanted))
    captions = texts(BATCHES * wanted.clips)
    batches = []
    for start in range(0, len(captions), wanted.clips):
        numbers = range(start, start + wanted.clips)
        clips = [clip(str(number), wanted) for number in numbers]
        batches.append(builder.build(clips, ["Describe."] * wanted.clips, [captions[number] for number in numbers]))
    fused = {"fused": True} if part.device == "cuda" else {}
    ways: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "fp32 masters": (torch.float32, lambda weights: torch.optim.AdamW(weights, lr=RATE, **fused)),
        "bf16, rounded at random": (torch.bfloat16, lambda weights: RoundedAdamW(weights, lr=RATE)),
        "bf16, AdamW": (torch.bfloat16, lambda weights: torch.optim.AdamW(weights, lr=RATE, **fused)),
    }
    steps = 2 if part.tiny else STEPS
    for number, (way, (dtype, make)) in enumerate(ways.items()):
        with part.case("optimizer", way=way):
            # What is left is shared by the ways that are left; building a model takes some of it.
            limit = (part.seconds_left() - 4) / (len(ways) - number)
            figures = run(part.device, part.tiny, dtype, make, batches, steps, limit)
            # Ways are compared after equal numbers of steps; a slower one may still make fewer.
            steps = figures["steps"]
            part.line("optimizer", way=way, rate=RATE, batch=list(batches[0]["input_ids"].shape), **figures)


def run(
    device: str, tiny: bool, dtype: Any, make: Callable[[Any], Any], batches: list[Any], steps: int, limit: float
) -> dict[str, Any]:
    """Train a new model for ``steps`` steps, or as many as ``limit`` seconds allow; its figures."""
    import torch
    from _step import Step, free
    from _vlm import new_model

    began = time.perf_counter()
    free(device)
    model = new_model(device, tiny=tiny)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().to(dtype)
    gc.collect()
    free(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [weight.detach().view(-1)[::STRIDE].clone() for weight in weights]
    optimizer, step = make(weights), Step(model)
    # Without a GPU bf16 is slow, and nothing is measured.
    mixed = dtype == torch.float32 and device == "cuda"
    autocast = torch.autocast(device, torch.bfloat16) if mixed else nullcontext()
    found, seconds, optimizing = [], [], []
    for number in range(steps):
        if time.perf_counter() - began > limit and number >= 8:
            break
        started = step.now()
        with autocast:
            found.append(step(batches[number % len(batches)]))
        middle = step.now()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(step.now() - started)
        optimizing.append(step.now() - middle)
    changed = sum(
        int((weight.detach().view(-1)[::STRIDE] != was).sum()) for weight, was in zip(weights, before, strict=True)
    )
    figures = {
        "steps": len(found),
        "losses": [round(loss, 4) for loss in found],
        "loss_first4": sum(found[:4]) / len(found[:4]),
        "loss_last4": sum(found[-4:]) / len(found[-4:]),
        "changed_share": changed / sum(map(len, before)),
        "seconds_a_step": sorted(seconds)[len(seconds) // 2],
        "optimizer_seconds": sorted(optimizing)[len(optimizing) // 2],
        "seconds": time.perf_counter() - began,
    }
    if device == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


if __name__ == "__main__":
    main(Part(__doc__))
