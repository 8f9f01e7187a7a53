"""LoRA adapters by whatever prefix their trainer gave the names of layers, and the check that all of them took effect.

PEFT loads what has its own names and passes over the rest with a warning: the base would write alone.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.core.errors import ProofFailed, UserError, first_line

_PEFT = "base_model.model."
#: Wrappers around a model that trainers leave in the names of its layers.
_WRAPPERS = frozenset(
    ("base_model", "model", "module", "language_model", "_orig_mod", "_fsdp_wrapped_module", "default")
)
_PART = re.compile(r"\A(?P<layer>.+)\.lora_(?P<part>(?:embedding_)?[AB]|magnitude_vector)(?P<rest>.*)\Z")
_OTHER = "Was it trained on another model or with another library's names?"


@dataclass(frozen=True, kw_only=True)
class AdapterKeys:
    """The tensors of an adapter: key of the file -> layer of the model and part (``A``, ``B``, …).

    ``plain`` where all names are PEFT's own; ``whole`` are keys of layers that were trained beside the adapter.
    """

    parts: Mapping[str, tuple[str, str]]
    whole: tuple[str, ...]
    plain: bool

    @property
    def layers(self) -> list[str]:
        """The adapted layers, in the order of the file."""
        return list(dict.fromkeys(layer for layer, _ in self.parts.values()))


def check_adapter(adapter: Path, model: Any) -> int:
    """The number of adapted layers of a model without adapters.

    Raises ProofFailed where a key of the adapter fits no layer of the model, a layer's pair is not whole or of another
    size, or a value is no number; UserError for a folder that holds no adapter.
    """
    return len(_checked(adapter, model, _tensors(adapter)).layers)


def with_adapter(adapter: Path, model: Any, *, trainable: bool = False) -> Any:
    """The model with the adapter on it (PEFT's). Raises as :func:`check_adapter`, and where a weight took no effect."""
    from peft import PeftModel

    tensors = _tensors(adapter)
    keys = _checked(adapter, model, tensors)
    try:
        if keys.plain:
            adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
        else:
            adapted = _mapped(adapter, model, keys, tensors, trainable)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ProofFailed(f"{adapter}: PEFT can't load it ({first_line(error)}). {_OTHER}") from error
    _check_effect(adapter, adapted, keys, tensors)
    return adapted


def _tensors(adapter: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = adapter / "adapter_model.safetensors"
    if not (adapter / "adapter_config.json").is_file() or not file.is_file():
        raise UserError(f"{adapter}: is no adapter: it needs adapter_config.json and adapter_model.safetensors.")
    try:
        return dict(load_file(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: can't be read ({first_line(error)}). Copy it again.") from error


def _checked(adapter: Path, model: Any, tensors: Mapping[str, Any]) -> AdapterKeys:
    modules = dict(model.named_modules())
    by_core: dict[str, list[str]] = {}
    for name in modules:
        by_core.setdefault(_core(name), []).append(name)
    parts: dict[str, tuple[str, str]] = {}
    whole, plain = [], True
    for key, tensor in tensors.items():
        match = _PART.match(key)
        if match is None:
            if key.startswith(_PEFT):
                whole.append(key)  # A whole layer that was trained beside the adapter.
                continue
            raise ProofFailed(_fits_nothing(adapter, key))
        layer = match["layer"].removeprefix(_PEFT)
        own = layer in modules
        if not own:
            found = by_core.get(_core(layer), [])
            if len(found) != 1:
                raise ProofFailed(_fits_nothing(adapter, key))
            layer = found[0]
        plain = plain and own and key.startswith(_PEFT) and not match["rest"].endswith(".default.weight")
        if not bool(tensor.isfinite().all()):
            raise ProofFailed(f"{adapter}: its key '{key}' holds values that are no numbers. Did its training diverge?")
        _check_size(adapter, key, match["part"], tensor, modules[layer])
        parts[key] = (layer, match["part"].removeprefix("embedding_"))
    for layer in dict.fromkeys(layer for layer, _ in parts.values()):
        have = {part for other, part in parts.values() if other == layer}
        if not have >= {"A", "B"}:
            raise ProofFailed(f"{adapter}: layer '{layer}' has only lora_{have.pop()}. The adapter is not whole.")
    return AdapterKeys(parts=parts, whole=tuple(whole), plain=plain)


def _core(name: str) -> str:
    """A layer's name without the wrappers that it begins with."""
    parts = [part for part in name.split(".") if not part.startswith("_")]
    while parts and parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def _fits_nothing(adapter: Path, key: str) -> str:
    return f"{adapter}: its key '{key}' fits no layer of the model, so the base alone would write. {_OTHER}"


def _check_size(adapter: Path, key: str, part: str, tensor: Any, module: Any) -> None:
    """Raise ProofFailed for a matrix that does not go with the layer's inputs or outputs."""
    wanted = getattr(module, {"A": "in_features", "B": "out_features"}.get(part, ""), None)
    found = tensor.shape[1 if part == "A" else 0] if tensor.ndim == 2 else None
    if wanted is not None and found is not None and wanted != found:
        raise ProofFailed(
            f"{adapter}: its key '{key}' is for a layer of size {found}, the model's has {wanted}. "
            "It was trained on another model."
        )


def _mapped(adapter: Path, model: Any, keys: AdapterKeys, tensors: Mapping[str, Any], trainable: bool) -> Any:
    """The adapter by the model's own names: layers, ranks and scales are those of the file."""
    from peft import PeftConfig, PeftModel
    from peft.utils import set_peft_model_state_dict
    from peft.utils.other import get_pattern_key

    config = copy.copy(PeftConfig.from_pretrained(str(adapter)))
    ranks, alphas = {}, {}
    for key, (layer, part) in keys.parts.items():
        if part == "A":
            written = _PART.match(key)["layer"].removeprefix(_PEFT)  # type: ignore[index]
            pattern = get_pattern_key(list(config.alpha_pattern), written)
            ranks[re.escape(layer)] = int(tensors[key].shape[0])
            alphas[re.escape(layer)] = config.alpha_pattern.get(pattern, config.lora_alpha)
    config.target_modules, config.rank_pattern, config.alpha_pattern = set(keys.layers), ranks, alphas
    config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    config.inference_mode = not trainable
    adapted = PeftModel(model, config)
    named = {
        f"{_PEFT}{layer}.lora_{part}{'' if part == 'magnitude_vector' else '.weight'}": tensors[key]
        for key, (layer, part) in keys.parts.items()
    }
    set_peft_model_state_dict(adapted, {**named, **{key: tensors[key] for key in keys.whole}})
    return adapted


def _check_effect(adapter: Path, adapted: Any, keys: AdapterKeys, tensors: Mapping[str, Any]) -> None:
    """Raise ProofFailed where a weight of the file is not that of the model."""
    import torch

    values = dict(adapted.named_parameters())
    for key, (layer, part) in keys.parts.items():
        names = (f"{_PEFT}{layer}.lora_{part}.default.weight", f"{_PEFT}{layer}.lora_embedding_{part}.default")
        value = next((values[name] for name in names if name in values), None)
        if part == "magnitude_vector":
            continue
        if value is None or not torch.equal(value.detach().float().cpu(), tensors[key].to(value.dtype).float().cpu()):
            raise ProofFailed(f"{adapter}: its key '{key}' was not loaded, so the base alone would write. {_OTHER}")
