"""What of a preset fits some devices, by the memory plan; and the numbers that stand in the presets' files.

``python -m flywheel.rounds.presets`` computes these numbers anew and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from flywheel.core.config import PRESETS, Config, parse_config, preset
from flywheel.core.config.presets import preset_file
from flywheel.core.config.template import merged
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.models.load import model_of_shape
from flywheel.rounds.memory_plan import ClipSize, Plan, plan_for
from trainers import mark_trained

#: GPUs and GiB of each, for which the files have numbers.
GRID = ((1, 24.0), (1, 48.0), (1, 80.0), (2, 80.0), (4, 80.0), (8, 80.0))
#: Multiplications and additions a second of the decoder alone in a step, measured: 2.13 billion parameters (1.41 in the
#: decoder's layers), 7,245 tokens with gradient checkpointing, .448 s on one H100.
_RATE = 8 * 1.41e9 * 7245 / 0.448
#: Bytes a second at which weights are read to write a token: half of what an H100's maker says. Not measured.
_READ_RATE = 0.5 * 3.35e12
#: Texts that are written at a time (our vLLM engine's default), and the least that the cache must have room for.
_AT_A_TIME, _LEAST_AT_A_TIME = 64, 4
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A preset on some devices: ``changes`` to its configuration, the plan they came to, and seconds per 1,000 clips.

    The seconds are computed from one H100's figures, not measured.
    """

    changes: Mapping[str, Any]
    plan: Plan
    method: str
    accumulation: int
    train_s: float
    annotate_s: float

    def notes(self) -> list[str]:
        """What was picked and why, in lines."""
        plan, many = self.plan, self.plan.devices > 1
        how = "all weights" if self.method == "full" else "a LoRA that is merged"
        return [
            f"For {plan.devices} x {plan.device_gib:g} GiB: {how}, optimizer {plan.optimizer}"
            + (f", shared by {plan.strategy}" if many else "")
            + (f", a step in {self.accumulation} parts" if self.accumulation > 1 else ""),
            f"{plan.reason}.",
            f"By the plan training takes {sum(plan.training.values()):.1f} GiB of each, the engine "
            f"{sum(plan.engine.values()):.1f}; per 1,000 clips {self.train_s:.0f} s of training and "
            f"{self.annotate_s:.0f} s of writing on H100s (computed, not measured).",
        ]

    def to_row(self) -> dict[str, Any]:
        """The numbers as a preset's file has them."""
        plan = self.plan
        return {
            "gpus": plan.devices,
            "gpu_memory_gib": plan.device_gib,
            "method": self.method,
            "optimizer": plan.optimizer,
            "strategy": plan.strategy,
            "accumulation": self.accumulation,
            "tensor_parallel_size": self.changes["models"]["main"]["options"]["tensor_parallel_size"],
            "training_gib": round(sum(plan.training.values()), 1),
            "engine_gib": round(sum(plan.engine.values()), 1),
            "host_gib": round(sum(plan.host.values()), 1),
            "train_s_per_1000_clips": round(self.train_s),
            "annotate_s_per_1000_clips": round(self.annotate_s),
        }


def fitting(name: str, gpus: int, gpu_memory_gib: float) -> Fit:
    """The preset as it fits so many GPUs with so much memory each: all weights where they fit, else a LoRA.

    Raises UserError for one that fits in no way, with what does by the files' numbers.
    """
    if "shape" not in preset(name):
        raise UserError(f"--preset {name}: is for no GPU. Leave --gpus and --gpu-memory out, or name another preset.")
    if (found := _found(name, gpus, gpu_memory_gib)) is not None:
        return found
    larger = [row for row in preset(name)["expected"] if row["gpus"] > gpus or row["gpu_memory_gib"] > gpu_memory_gib]
    mends = [f"take {larger[0]['gpus']} x {larger[0]['gpu_memory_gib']:g} GiB"] if larger else []
    if others := [other for other in PRESETS if _has_row(other, gpus, gpu_memory_gib)]:
        mends.append(f"another preset ({', '.join(others)})")
    raise UserError(
        f"--preset {name}: fits {gpus} x {gpu_memory_gib:g} GiB in no way, not even as a LoRA. "
        f"{_sentence(mends) if mends else 'Take larger GPUs'}."
    )


def _sentence(mends: list[str]) -> str:
    text = " or ".join(mends)
    return text[0].upper() + text[1:]


def _has_row(name: str, gpus: int, gib: float) -> bool:
    """Whether a preset's file has numbers for no more devices of no more memory."""
    rows = preset(name).get("expected", [])
    return any(row["gpus"] <= gpus and row["gpu_memory_gib"] <= gib for row in rows)


def expected(name: str) -> list[dict[str, Any]]:
    """The rows of numbers that the preset's file has, computed anew; devices that it does not fit have none."""
    found = (_found(name, gpus, gib) for gpus, gib in GRID)
    return [fit.to_row() for fit in found if fit is not None]


def _found(name: str, gpus: int, gib: float) -> Fit | None:
    for changes in _ways(name, gpus):
        config = parse_config(merged(PRESETS[name], changes))
        model, clip = _model(name, config.pretrain.method), clip_size(preset(name)["clip"], config)
        plan = plan_for(config, model, clip, ("GPU", int(gib * _GIB)), gpus)
        if plan.fits and plan.engine["cache"] >= _least_cache_gib(config, model, clip):
            train_s, annotate_s = _seconds(config, model, clip, gpus)
            return Fit(
                changes=merged(changes, {"train": {"strategy": plan.strategy}}),
                plan=plan,
                method=config.pretrain.method,
                accumulation=config.train.accumulation,
                train_s=train_s,
                annotate_s=annotate_s,
            )
    return None


def _ways(name: str, gpus: int) -> Iterator[dict[str, Any]]:
    """Changes to a preset's configuration, the best first: all weights, then a LoRA; in as few parts as can be."""
    config = parse_config(dict(PRESETS[name]))
    clip = clip_size(preset(name)["clip"], config)
    length = -(-(clip.prompt + clip.answer) // 1024) * 1024
    heads = int(preset(name)["shape"]["text_config"]["num_attention_heads"])
    parallel = max(n for n in (1, 2, 4, 8, 16) if n <= gpus and heads % n == 0)
    options = {"tensor_parallel_size": parallel, "max_model_len": length}
    rows = max(1, config.pretrain.batch_size // gpus)
    for method in ("full", "lora"):
        for parts in (n for n in (1, 2, 4, 8, 16, 32, 64) if n <= rows):
            yield {
                "models": {"main": {"engine": "vllm", "options": options}},
                "pretrain": {"method": method},
                "train": {"devices": gpus, "accumulation": parts},
            }


@lru_cache(maxsize=4)
def _model(name: str, method: str) -> Any:
    """The preset's model without storage, with what the method trains marked."""
    config = parse_config(merged(PRESETS[name], {"pretrain": {"method": method}}))
    return mark_trained(model_of_shape(preset(name)["shape"], "bf16"), config.pretrain)


def clip_size(clip: Mapping[str, Any], config: Config) -> ClipSize:
    """What a clip becomes: ``frames_together`` frames a token for each ``pixels_per_token`` pixels.

    ``tokens_beside`` are those of each such group's time, ``text_tokens`` the prompt's and the sound's; ``side`` is
    that to which frames are scaled, 0 where they stay as they were decoded.
    """
    side = clip["side"] or config.corpus.max_side
    groups = -(-config.corpus.frames // clip["frames_together"])
    tokens = groups * (side * side // clip["pixels_per_token"] + clip["tokens_beside"]) + clip["text_tokens"]
    pixels = groups * clip["frames_together"] * side * side * 3 * 4
    return ClipSize(prompt=tokens, answer=config.annotate.max_new_tokens, pixels=pixels)


def _cache_bytes(model: Any) -> int:
    """Bytes of keys and values of a token."""
    text = model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * 2 * text.num_hidden_layers * text.num_key_value_heads * width)


def _least_cache_gib(config: Config, model: Any, clip: ClipSize) -> float:
    parallel = int(config.main.options["tensor_parallel_size"])
    return _LEAST_AT_A_TIME * (clip.prompt + clip.answer) * _cache_bytes(model) / parallel / _GIB


def _seconds(config: Config, model: Any, clip: ClipSize, gpus: int) -> tuple[float, float]:
    """Seconds of training on 1,000 clips, each once, and of writing of them."""
    decoder = model.get_decoder()
    layers = sum(p.numel() for p in decoder.layers.parameters())
    tokens, pretrain = clip.prompt + clip.answer, config.pretrain
    # Forward, gradients of states, and those of weights; with checkpointing forward once more.
    passes = 2 + 2 + (2 if pretrain.method == "full" else 0) + (2 if pretrain.gradient_checkpointing else 0)
    train_s = 1000 * tokens * passes * layers / _RATE / gpus
    parallel = int(config.main.options["tensor_parallel_size"])
    read_s = 1000 * 2 * layers * clip.prompt / _RATE / parallel
    weights = 2.0 * sum(p.numel() for p in model.parameters()) / parallel
    write_s = 1000 / _AT_A_TIME * clip.answer * weights / _READ_RATE
    return train_s, read_s + write_s


def main() -> None:
    """Write the numbers into all presets' files."""
    for name in PRESETS:
        if "shape" not in preset(name):
            continue
        file = preset_file(name)
        text = file.read_text(encoding="utf-8").partition("expected:")[0]
        rows = yaml.safe_dump({"expected": expected(name)}, sort_keys=False, default_flow_style=None, width=110)
        file.write_text(text + rows, encoding="utf-8")
        say(f"{file.name}: {len(expected(name))} rows")


if __name__ == "__main__":
    main()
