"""What training and the engine will take of a device's memory, from a model's config alone: no weight is loaded.

The model is built without storage (torch's meta device) and its parameters are counted. What a backward pass must keep
of each token is counted by letting a few tokens through its decoder. Training and engine have a device one after the
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import AttentionInterface

from flywheel.core.config import Config, Pretrain
from flywheel.core.errors import FlywheelError, first_line
from flywheel.core.progress import say
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_processor, model_folder, without_weights
from flywheel.models.prompt import Evidence
from flywheel.rounds.devices import count_of
from flywheel.rounds.names import prompts_of
from flywheel.rounds.spread import Spread
from trainers import mark_trained, memory, precision_for
from trainers.sharding import STAGES
from trainers.weights import PARTS, Choice, choose

_GIB = 2**30
#: Share of a device that may be planned; the rest is the driver's, the allocator's and what is not counted.
_MOST = 0.92
#: Share of the device that vLLM takes where its options do not say.
_VLLM_SHARE = 0.9
#: Bytes that the loss holds of logits at a time (the default of noise_control.linear_loss).
_LOSS_BYTES = 512 << 20
#: Tokens that are let through the decoder.
_PROBE = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Memory by part in GiB, the optimizer that is taken and why, and what to change where it does not fit.

    ``training`` and ``engine`` are each one device's, one after the other; ``host`` is the machine's own memory with
    what all ``devices`` take of it. ``tokens`` are those that a device takes at a time. ``change`` and ``uncounted``
    are empty where there is nothing to say.
    """

    device: str
    device_gib: float
    parameters: int
    trained: int
    tokens: int
    optimizer: str
    reason: str
    training: Mapping[str, float] = field(default_factory=dict)
    engine: Mapping[str, float] = field(default_factory=dict)
    host: Mapping[str, float] = field(default_factory=dict)
    change: str = ""
    uncounted: str = ""
    devices: int = 1
    strategy: str = "single"

    @property
    def fits(self) -> bool:
        """Whether training and engine each fit in the device."""
        return max(sum(self.training.values()), sum(self.engine.values())) <= _MOST * self.device_gib

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, with the sums and ``fits``."""
        sums = {f"{name}_gib": sum(getattr(self, name).values()) for name in ("training", "engine", "host")}
        return {**asdict(self), **sums, "fits": self.fits}

    def __str__(self) -> str:
        many = f"{self.devices} x " if self.devices > 1 else ""
        each = f"; a device takes {self.tokens} tokens at a time, by {self.strategy}"
        lines = [
            f"{many}{self.device}: {self.device_gib:.1f} GiB. The model has {self.parameters / 1e9:.2f} billion "
            f"parameters, {self.trained / 1e9:.2f} of them trained"
            f"{each if self.devices > 1 else f'; a batch has {self.tokens} tokens'}",
            f"optimizer {self.optimizer}: {self.reason}",
        ]
        for name in ("training", "engine", "host"):
            parts: Mapping[str, float] = getattr(self, name)
            said = ", ".join(f"{part} {gib:.2f}" for part, gib in parts.items())
            lines.append(f"{name}: {sum(parts.values()):.1f} GiB ({said})")
        lines += [f"not counted: {self.uncounted}"] if self.uncounted else []
        return "\n".join([*lines, "it fits" if self.fits else f"it does not fit: {self.change}"])

    def in_short(self) -> str:
        """One line of what it comes to."""
        on = (
            f"{self.devices} x {self.device_gib:.1f} GiB ({self.strategy})"
            if self.devices > 1
            else f"{self.device_gib:.1f} GiB"
        )
        engine = f", the engine {sum(self.engine.values()):.1f}" if self.engine else ""
        said = "" if self.fits else f". It does not fit: {self.change}"
        return (
            f"memory: training takes {sum(self.training.values()):.1f}{engine} of {on}; "
            f"optimizer {self.optimizer}: {self.reason}{said}"
        )


def plan_of(config: Config, root: Path, device_gib: float | None = None, devices: int | None = None) -> Plan:
    """The plan for this configuration on this machine, or on ``devices`` devices with ``device_gib`` GiB each.

    With ``train.strategy`` auto it is that of the first strategy that fits. Raises UserError where the model's folder
    can't be read or the optimizer does not go with the precision.
    """
    prompt, answer, pixels = _clip_sizes(config, root)
    clip = ClipSize(prompt=prompt, answer=answer, pixels=pixels)
    precision = precision_for(config.pretrain.optimizer, config.main.precision)
    if device_gib is not None and config.main.precision == "auto":
        # Another machine's: one with bf16, as all have that such models are trained on.
        precision = "bf16"
    model = mark_trained(without_weights(model_folder(config.main.folder, root), precision), config.pretrain)
    device = _device(device_gib)
    return plan_for(config, model, clip, device, count_of(config) if devices is None else devices)


def planned(config: Config, root: Path) -> Plan | None:
    """The plan, or None after a line of why where there is none: of a model that is built in a way of its own."""
    key = (config.model_dump_json(exclude={"store", "tracking", "schedule", "review"}), str(root))
    if key not in _planned:
        try:
            _planned[key] = plan_of(config, root)
        except (FlywheelError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            # Models of other makes: their code is run without weights, which not all of it expects.
            say(f"memory: can't be planned ({first_line(error)})")
            _planned[key] = None
    return _planned[key]


#: Plans that were made in this process: a round asks some times for the same.
_planned: dict[tuple[str, str], Plan | None] = {}


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """Of the largest clip: tokens of its question and of its answer, and bytes of its pixels."""

    prompt: int
    answer: int
    pixels: int


def _device(device_gib: float | None) -> tuple[str, int]:
    """Name and bytes of one of this machine's devices, the smallest; or of another one with so many GiB."""
    if device_gib is not None:
        return "another device", int(device_gib * _GIB)
    if not torch.cuda.is_available():
        return "CPU", memory.total_bytes(torch.device("cpu"))
    sizes = {i: memory.total_bytes(torch.device("cuda", i)) for i in range(torch.cuda.device_count())}
    least = min(sizes, key=lambda i: sizes[i])
    return torch.cuda.get_device_name(least), sizes[least]


def plan_for(config: Config, model: Any, clip: ClipSize, device: tuple[str, int], devices: int) -> Plan:
    """The plan for a model without storage, in the type that it computes in, on devices of a name and bytes each.

    What is trained of it is marked (:func:`trainers.mark_trained`).
    """
    if config.train.strategy != "auto":
        names = [config.train.strategy]
    else:
        names = ["single"] if devices == 1 else ["ddp", "zero2", "zero3"]
    for name in names:
        plan = _plan(config, model, clip, device, devices, name)
        if plan.fits:
            return plan
    return _advised(plan, config.pretrain)


def _plan(config: Config, model: Any, clip: ClipSize, device: tuple[str, int], devices: int, strategy: str) -> Plan:
    pretrain, (name, available) = config.pretrain, device
    precision = "bf16" if model.dtype == torch.bfloat16 else "fp32"
    sharded = strategy in STAGES
    choice = Choice(optimizer="adamw", reason="an adapter's weights are fp32")
    if pretrain.method == "full":
        choice = choose(pretrain.optimizer, precision, model, available, sharded=sharded)
    rows = -(-pretrain.batch_size // (devices * config.train.accumulation))
    tokens = rows * (clip.prompt + clip.answer)
    training = step_bytes(model, choice, pretrain, tokens, rows * clip.answer)
    training["pixels"] = rows * clip.pixels
    spread = Spread(strategy=strategy, devices=devices, offload=config.train.offload and sharded)
    training, host = spread.of(training, model)
    asked = config.annotate.batch_size * (clip.prompt + clip.answer)
    ahead = devices * (pretrain.decoders + 1) * rows * clip.pixels
    return Plan(
        device=name,
        device_gib=available / _GIB,
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        tokens=tokens,
        optimizer=choice.optimizer,
        reason=choice.reason,
        training=_gib(training),
        engine=_gib(_engine(config, model, asked, available, 2 if precision == "bf16" else 4)),
        host=_gib({"batches ahead": ahead, **host}) | _kept_between_uses(config),
        uncounted="" if pretrain.freeze_vision else "what the vision tower keeps for its backward pass",
        devices=devices,
        strategy=strategy,
    )


def _kept_between_uses(config: Config) -> dict[str, float]:
    """GiB of the machine's memory that pixels, and features of a frozen vision tower, may take between their uses."""
    features = {"kept features": config.corpus.features_gib} if config.pretrain.freeze_vision else {}
    return {"kept pixels": config.corpus.pixels_gib, **features}


def kept_bytes(model: Any, dtype: torch.dtype) -> int:
    """Bytes that a backward pass through the decoder of a model without storage must keep of each token.

    Attention is taken to be a fused one, which keeps its inputs and its output.
    """
    if model not in _kept:
        _kept[model] = _count_kept(model, dtype)
    return _kept[model]


#: What was counted of models that are still there: one is planned in many ways.
_kept: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def _count_kept(model: Any, dtype: torch.dtype) -> int:
    decoder = model.get_decoder()
    width = model.config.get_text_config().hidden_size
    hidden = torch.zeros(1, _PROBE, width, device="meta", dtype=dtype, requires_grad=True)
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        weight = tensor if tensor._base is None else tensor._base
        if not isinstance(weight, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage
        return tensor

    before = model.config._attn_implementation
    AttentionInterface.register("counted", _counted_attention)
    model.set_attn_implementation("counted")
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            decoder(inputs_embeds=hidden, use_cache=False)
    finally:
        model.set_attn_implementation(before)
    return sum(storage.nbytes() for storage in storages.values()) // _PROBE


class _Counted(torch.autograd.Function):
    """Stands for fused attention: of its shapes, and keeping what that keeps."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError


def _counted_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **_: Any
) -> tuple[torch.Tensor, None]:
    return _Counted.apply(query, key, value).transpose(1, 2).contiguous(), None  # type: ignore[no-untyped-call]


def step_bytes(model: Any, choice: Choice, pretrain: Pretrain, tokens: int, targets: int) -> dict[str, float]:
    """Bytes by part of a step at its fullest, of ``tokens`` of which ``targets`` are learned, without its pixels.

    ``model`` is without storage, of the type that it computes in, with what is trained marked.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    # An adapter's base stays in its type; else all weights have the optimizer's.
    frozen *= (model.dtype if pretrain.method == "lora" else choice.dtype).itemsize
    text, parts = model.config.get_text_config(), PARTS[choice.optimizer]
    computes = model.dtype
    each = kept_bytes(model, computes)
    kept = each * tokens
    if pretrain.gradient_checkpointing:
        # Each layer's input, and one layer at a time anew.
        layers = text.num_hidden_layers
        kept = (layers * text.hidden_size * computes.itemsize + each // layers) * tokens
    return {
        "weights": trained * parts["weights"] + frozen,
        "gradients": trained * parts["gradients"],
        "moments": trained * parts["moments"],
        "bf16 copies": trained * parts["copies"],
        "activations": kept,
        "loss": min(_LOSS_BYTES, 4 * targets * text.vocab_size),
    }


def _engine(config: Config, model: Any, tokens: int, available: int, size: int) -> dict[str, float]:
    """Bytes by part of what writes ``tokens`` at a time with numbers of ``size`` bytes; none where servers do."""
    if config.main.engine not in ("transformers", "vllm"):
        return {}
    text = model.config.get_text_config()
    # vLLM's tensor parallelism cuts the weights into so many.
    cut = int(config.main.options.get("tensor_parallel_size", 1)) if config.main.engine == "vllm" else 1
    weights = size * sum(p.numel() for p in model.parameters()) / cut
    if config.main.engine == "vllm":
        share = float(config.main.options.get("gpu_memory_utilization", _VLLM_SHARE))
        return {"weights": weights, "cache": max(0.0, share * available - weights)}
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {"weights": weights, "cache": float(2 * text.num_hidden_layers * heads * width * size * tokens)}


def _clip_sizes(config: Config, root: Path) -> tuple[int, int, int]:
    """Of the largest clip as the caption's prompt shows it: tokens of question and answer, and bytes of pixels."""
    prompt = prompts_of(config, root)[0]
    inputs = frozenset(prompt.inputs) if prompt.inputs is not None else frozenset({"frames"})
    processor = load_processor(model_folder(config.main.folder, root), inputs)
    count, side = max(2, config.corpus.frames), config.corpus.max_side
    clip = ClipInput(
        key="plan",
        duration_s=float(count),
        fps=1.0,
        frames_THWC=np.zeros((count, side, side, 3), dtype=np.uint8) if "frames" in inputs else None,
        times_s=tuple(float(i) for i in range(count)) if "frames" in inputs else (),
    )
    batch = InputBuilder(processor).build([clip], [prompt.render(Evidence())])
    pixels = sum(v.numel() * v.element_size() for n, v in batch.items() if "pixel" in n)
    return batch["input_ids"].shape[1], prompt.max_new_tokens or config.annotate.max_new_tokens, pixels


def _gib(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value / _GIB for name, value in parts.items() if value}


def _advised(plan: Plan, pretrain: Pretrain) -> Plan:
    """The plan with what to change first."""
    room = _MOST * plan.device_gib
    # The batch's parts grow with it; the others stay.
    fixed = sum(gib for part, gib in plan.training.items() if part not in ("activations", "pixels"))
    changing = sum(plan.training.values()) - fixed
    if sum(plan.training.values()) <= room:
        change = "set a smaller annotate.batch_size, or let servers write: the engine takes too much"
    elif fixed < room and not pretrain.gradient_checkpointing:
        change = "set pretrain.gradient_checkpointing"
    elif fixed < room and pretrain.batch_size > 1 and changing / pretrain.batch_size <= room - fixed:
        most = plan.devices * int((room - fixed) / (changing / -(-pretrain.batch_size // plan.devices)))
        change = f"set pretrain.batch_size to {most} at most, or as many times train.accumulation"
    elif plan.devices > 1 and plan.strategy in ("ddp", "zero1", "zero2"):
        change = "set train.strategy to zero3"
    elif plan.strategy == "zero3" and "masters and moments" in plan.training:
        change = "set train.offload, or pretrain.method to lora, or take more devices"
    elif pretrain.method == "full":
        change = "set pretrain.method to lora"
    else:
        change = "take a smaller model or a larger device"
    return replace(plan, change=change)
