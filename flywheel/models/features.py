"""What a frozen vision tower makes of clips, kept: a training shows each clip many times, and it never changes.

transformers' models take such features instead of pixels (``mm_encoder_outputs``).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from flywheel.models.inputs import InputRow, joined

#: The parts of a tower's output that a model's forward pass reads.
_READ = ("pooler_output", "deepstack_features")
#: Relative difference of features computed alone and together that is rounding; a wrong part makes one of about 1.
_ROUNDING = 0.05
#: Where a batch has its clips' pixels, each by itself.
PIXELS = "pixels"


@dataclass(frozen=True)
class Pixels:
    """The pixels of a batch's clips, each clip's tensors by themselves; ``keys`` are the clips'."""

    keys: tuple[str, ...]
    tensors: tuple[Mapping[str, Tensor], ...]


class Tower:
    """A model's vision tower with what follows it up to the text model: pixels of clips to what the texts attend to."""

    def __init__(self, model: Any, medium: str, *, bf16: bool) -> None:
        """``medium`` is ``video`` or ``image``, whichever the processor makes of frames; ``bf16``: by autocast."""
        self.medium = medium
        self._make = getattr(_inner(model), f"get_{medium}_features")
        self._takes = frozenset(inspect.signature(self._make).parameters)
        self._device = next(model.parameters()).device
        self._bf16 = bf16

    @classmethod
    def of(cls, model: Any, row: InputRow, *, bf16: bool) -> Tower | None:
        """The tower for a batch's rows like this one; None where the model takes no features instead of pixels."""
        inner = _inner(model)
        if "mm_encoder_outputs" not in inspect.signature(inner.forward).parameters:
            return None
        media = [m for m in ("video", "image") if _pixels(m, row.tensors) and hasattr(inner, f"get_{m}_features")]
        return cls(model, media[0], bf16=bf16) if len(media) == 1 else None

    def pixels_of(self, tensors: Mapping[str, Tensor]) -> str | None:
        """Which of a row's tensors are the pixels."""
        return _pixels(self.medium, tensors)

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The features of the clips in these tensors, as the model's forward pass reads them."""
        given = {name: value.to(self._device) for name, value in tensors.items() if name in self._takes}
        with self._autocast():
            made = self._make(**given, return_dict=True)
        return {name: value for name in _READ if (value := getattr(made, name, None)) is not None}

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def is_constant(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether nothing that these features come from is trained, and nothing of them is drawn at random."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            before = _random_states(devices)
            leaves = list(_leaves(self(tensors)))
            same = all(torch.equal(a, b) for a, b in zip(before, _random_states(devices), strict=True))
        return same and bool(leaves) and not any(leaf.requires_grad for leaf in leaves)


class KeptFeatures:
    """Clips' features by key, in the machine's memory up to a number of bytes.

    Each clip's are computed by itself: they are the same to the bit whatever it is batched with, and whether they were
    kept or not. So a training that goes on learns from what an uninterrupted one does.
    """

    def __init__(self, tower: Tower, most_bytes: int) -> None:
        self._tower, self._most, self.size_bytes = tower, most_bytes, 0
        self._kept: dict[str, dict[str, Any]] = {}

    def without_pixels(self, key_rows: Sequence[tuple[str, InputRow]]) -> tuple[list[InputRow], Pixels | None]:
        """Rows for a batch without their pixels, and these; as they are, and None, where one has no pixels."""
        names = [self._tower.pixels_of(row.tensors) for _, row in key_rows]
        if None in names:
            return [row for _, row in key_rows], None
        rest = [
            replace(row, tensors={name: value for name, value in row.tensors.items() if name != pixels})
            for (_, row), pixels in zip(key_rows, names, strict=True)
        ]
        return rest, Pixels(tuple(key for key, _ in key_rows), tuple(row.tensors for _, row in key_rows))

    def instead(self, pixels: Pixels) -> dict[str, Any]:
        """The argument of the model's forward pass that takes the place of these pixels."""
        some = [self._of(key, tensors) for key, tensors in zip(pixels.keys, pixels.tensors, strict=True)]
        return {"mm_encoder_outputs": {self._tower.medium: SimpleNamespace(**together(some, self._tower._device))}}

    def _of(self, key: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        kept = self._kept.get(key)
        if kept is None:
            with torch.no_grad():
                kept = _moved(self._tower(tensors), torch.device("cpu"))
            size = num_bytes(kept)
            # None goes for another: an epoch comes to each clip once, so the one that goes would be the next.
            if self.size_bytes + size <= self._most:
                self._kept[key] = kept
                self.size_bytes += size
        return kept


def kept_features(
    model: Any, rows: Iterable[InputRow], num_clips: int, *, most_bytes: int, bf16: bool
) -> tuple[KeptFeatures | None, int]:
    """Features of a training's clips, of which ``rows`` are two, and the bytes that all take; None where they can't be
    kept.

    They can where the tower is frozen and draws nothing at random, the model takes features, those of both clips
    together are those of each, and all fit.
    """
    some = list(rows)
    tower = Tower.of(model, some[0], bf16=bf16) if some and most_bytes else None
    if tower is None:
        return None, 0
    with _training(model):
        each = _bytes_each(tower, some)
    total = each * num_clips
    return (KeptFeatures(tower, most_bytes) if 0 < total <= most_bytes else None), total


@contextmanager
def _training(model: Any) -> Iterator[None]:
    """Within this context the model is in the mode in which it is trained: dropout draws there alone."""
    before = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def _bytes_each(tower: Tower, some: Sequence[InputRow]) -> int:
    """Bytes that a clip's features take; 0 where they change, or are others in a batch than alone."""
    if not tower.is_constant(some[0].tensors):
        return 0
    with torch.no_grad():
        alone = [tower(row.tensors) for row in some]
        shared = {name: joined([row.tensors[name] for row in some]) for name in some[0].tensors}
        return num_bytes(alone[0]) if _alike(together(alone, tower._device), tower(shared)) else 0


def together(some: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    """Clips' features as those of their batch.

    ``pooler_output`` is a tensor whose first axis are items, or a sequence of items' tensors; ``deepstack_features`` a
    list of such, one for each layer.
    """
    out: dict[str, Any] = {}
    for name in some[0]:
        parts = [features[name] for features in some]
        if name == "deepstack_features":
            out[name] = [_after_each_other(layer, device) for layer in zip(*parts, strict=True)]
        else:
            out[name] = _after_each_other(parts, device)
    return out


def num_bytes(features: Any) -> int:
    """Bytes that features take."""
    return sum(leaf.numel() * leaf.element_size() for leaf in _leaves(features))


def _after_each_other(parts: Sequence[Any], device: torch.device) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat([part.to(device) for part in parts])
    return tuple(item.to(device) for part in parts for item in part)


def _inner(model: Any) -> Any:
    """The model below the output layer, and below an adapter."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model


def _pixels(medium: str, tensors: Mapping[str, Any]) -> str | None:
    names = ("pixel_values_videos",) if medium == "video" else ("pixel_values",)
    return next((name for name in names if name in tensors), None)


def _leaves(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)


def _moved(value: Any, device: torch.device) -> Any:
    """The same with each tensor alone in its memory: a part of a larger one would keep that."""
    if isinstance(value, Tensor):
        return value.detach().to(device).clone()
    if isinstance(value, Mapping):
        return {name: _moved(item, device) for name, item in value.items()}
    return tuple(_moved(item, device) for item in value)


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both have the same tensors but for rounding."""
    pairs = list(zip(_leaves(one), _leaves(other), strict=False))
    if one.keys() != other.keys() or len(pairs) < max(len(list(_leaves(one))), len(list(_leaves(other)))):
        return False
    return all(a.shape == b.shape and float((a - b).norm()) <= _ROUNDING * float(b.norm()) for a, b in pairs)


def _random_states(devices: Sequence[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
