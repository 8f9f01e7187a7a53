"""The memory plan against the peaks of real steps at 2 B parameters. The bar: within 15 %."""

from __future__ import annotations

from typing import Any

from _part import Part

STEPS, BAR = 4, 0.15


def main(part: Part) -> None:
    """Train some steps with each optimizer, and compare their peaks with the plan's."""
    part.need_gpu()
    import torch
    from _step import free
    from _vlm import clip, new_model, new_processor, sizes, texts
    from trainer import train

    from flywheel.core.config import Pretrain
    from flywheel.models.inputs import IGNORED, InputBuilder
    from flywheel.models.load import Vlm
    from flywheel.rounds.memory_plan import step_bytes
    from trainers.weights import Choice

    wanted = sizes(tiny=part.tiny)
    processor = new_processor(wanted)
    clips = [clip(str(number), wanted) for number in range(wanted.clips)]
    batch: dict[str, Any] = InputBuilder(processor).build(clips, ["Describe."] * wanted.clips, texts(wanted.clips))
    tokens, targets = batch["input_ids"].numel(), int((batch["labels"] != IGNORED).sum())
    pixels = sum(value.numel() * value.element_size() for name, value in batch.items() if "pixel" in name)
    pretrain = Pretrain(gradient_checkpointing=True, batch_size=wanted.clips)
    planned = new_model("meta", tiny=part.tiny).to(torch.bfloat16)
    vlm = Vlm(model=new_model(part.device, tiny=part.tiny), processor=processor, digest="", adapter_digest="")
    for way in ("adamw_sr", "adamw_masters"):
        with part.case("plan", optimizer=way):
            parts = step_bytes(planned, Choice(optimizer=way, reason=""), pretrain, tokens, targets)
            parts["pixels"] = pixels
            free(part.device)
            measured = train(vlm, way, "mle", wanted, STEPS, clip, texts)["peak_gib"]
            total = sum(parts.values()) / 2**30
            part.line(
                "plan",
                optimizer=way,
                tokens=tokens,
                targets=targets,
                planned_gib=total,
                parts={name: size / 2**30 for name, size in parts.items()},
                measured_gib=measured,
                # On the CPU the peak is the whole process's, so there is nothing to compare.
                apart=None if part.tiny else total / measured - 1,
                within_bar=None if part.tiny else abs(total / measured - 1) <= BAR,
            )


if __name__ == "__main__":
    main(Part(__doc__))
