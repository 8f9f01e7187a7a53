"""One way to load a generative model: a folder with config, processor (or tokenizer) and safetensors.

Models that see, hear, do both, or read text alone; what one takes is asked of its processor. Only safetensors are
read: a pickle can run code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError, first_line
from flywheel.models.adapters import check_adapter as check_adapter
from flywheel.models.adapters import with_adapter
from flywheel.models.hub import downloaded, is_hub_id, not_here
from flywheel.playground.tiny import BUNDLED, bundled_model

_CHUNK = 1 << 22
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
#: From this folder alone, by transformers' classes alone: left open, the folder's own code would be offered on a
#: terminal, and could do anything.
_OURS: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
#: Code of the error of a model that does not take an input.
NO_INPUT = "no_input"


@dataclass(kw_only=True)
class Vlm:
    """A loaded model with its processor. ``digest`` hashes the weights and config, ``adapter_digest`` the adapter's."""

    model: Any
    processor: Any
    digest: str
    adapter_digest: str

    @property
    def device(self) -> Any:
        return next(self.model.parameters()).device


def model_folder(name: str, root: Path) -> Path:
    """The folder that a model's ``folder`` names: one of ``BUNDLED``, a path (from the workspace), or an id on a hub.

    Raises UserError (code "not_downloaded") for an id whose model is not on this machine.
    """
    if name in BUNDLED:
        return bundled_model(name)
    path = Path(name).expanduser()
    path = path if path.is_absolute() else root / path
    if path.exists() or not is_hub_id(name):
        return path
    if (folder := downloaded(name)) is None:
        raise not_here(name, root)
    return folder


def check_folder(folder: Path, inputs: Collection[str] = ("frames",)) -> None:
    """Check a model's files, before any heavy library is imported.

    ``inputs`` are the media that it is to take (``frames``, ``sound``); none for a text model. Raises UserError.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such model folder. "
            "Set models.main.folder to a folder with config, processor and safetensors."
        )
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: has no config.json, so it is no transformers model folder.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
        if pickles:
            raise UserError(
                f"{folder}: its weights are pickled ({pickles[0]}), which can run code. Convert them to safetensors."
            )
        raise UserError(f"{folder}: has no weights (*.safetensors).")
    names = [*_PROCESSOR_FILES]
    if not inputs:
        names += ["tokenizer_config.json", "tokenizer.json"]
    if not any((folder / name).exists() for name in names):
        raise UserError(f"{folder}: has no processor ({' or '.join(names[:2])}). Save the model's processor beside it.")


def chosen_precision(precision: str) -> str:
    """``bf16`` or ``fp32``: ``auto`` is bf16 on an accelerator that has it."""

    if precision != "auto":
        return precision
    return "bf16" if has_bf16() else "fp32"


def has_bf16() -> bool:
    """Whether there is an accelerator that computes in bf16 itself, not by way of float32."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def load_processor(folder: Path, inputs: Collection[str] = ("frames",)) -> Any:
    """A model's processor (a text model's tokenizer) without the model.

    Raises UserError where the folder can't be loaded, or the processor does not take one of ``inputs``.
    """
    check_folder(folder, inputs)
    from safetensors import SafetensorError
    from transformers import AutoProcessor, AutoTokenizer

    # A text model has a tokenizer and no processor.
    auto = AutoProcessor if any((folder / name).exists() for name in _PROCESSOR_FILES) else AutoTokenizer
    try:
        processor = auto.from_pretrained(folder, **_OURS)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    if missing := sorted(set(inputs) - inputs_of(processor)):
        medium = {"frames": "video", "sound": "audio"}.get(missing[0], missing[0])
        wanted = {"frames": "with video input", "sound": "that hears"}.get(missing[0], f"that takes {missing[0]}")
        raise UserError(f"{folder}: its processor takes no {medium}. Choose a model {wanted}.", code=NO_INPUT)
    return processor


def inputs_of(processor: Any) -> frozenset[str]:
    """The media that a processor takes: of ``frames`` and ``sound`` those it has a part for."""
    parts = {"frames": "video_processor", "sound": "feature_extractor"}
    return frozenset(name for name, part in parts.items() if getattr(processor, part, None) is not None)


def _unloadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: can't be loaded as a generative model ({first_line(error)}).")


def load_vlm(
    folder: Path,
    adapter: Path | None = None,
    *,
    precision: str = "auto",
    trainable_adapter: bool = False,
    inputs: Collection[str] = ("frames",),
    on_cpu: bool = False,
) -> Vlm:
    """Load a model, and an adapter onto it; to the accelerator where there is one, unless ``on_cpu``.

    ``precision``: ``auto`` is bf16 on an accelerator that has it, else fp32. Raises UserError naming the folder and
    what is wrong with it, ProofFailed where the adapter can't act on the model.
    """
    processor = load_processor(folder, inputs)
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")
    bf16 = chosen_precision(precision) == "bf16"
    try:
        model, info = _model_class(folder).from_pretrained(
            folder,
            dtype=torch.bfloat16 if bf16 else torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **_OURS,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    if info["missing_keys"]:
        raise UserError(
            f"{folder}: weights are missing, for instance {sorted(info['missing_keys'])[0]}. The folder is incomplete."
        )
    if adapter is not None:
        model = with_adapter(adapter, model, trainable=trainable_adapter)
    model.to(device).eval()
    return Vlm(
        model=model,
        processor=processor,
        digest=folder_digest(folder),
        adapter_digest=folder_digest(adapter) if adapter is not None else "",
    )


def without_weights(folder: Path, precision: str) -> Any:
    """The model of a folder's config without storage (on torch's meta device), in ``bf16`` or ``fp32``.

    Raises UserError where the folder has no config of a model that writes text.
    """
    import torch
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        thinker = getattr(config, "thinker_config", None)
        model_class = _model_class(folder)
        make = model_class.from_config if thinker is None else model_class._from_config
        with torch.device("meta"):
            return make(thinker or config, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(folder, error) from error


def model_of_shape(shape: Mapping[str, Any], precision: str) -> Any:
    """The model of a published configuration's values (``model_type`` and sizes) without storage, as
    :func:`without_weights`.

    Raises ValueError for a type that transformers does not know.
    """
    import torch
    from transformers import AutoConfig

    values = dict(shape)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        return _auto_class(config).from_config(config, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)


def _model_class(folder: Path) -> Any:
    """transformers' class for the folder's architecture. Raises ValueError where it has none that writes text.

    Of a model that also speaks it is its thinker's: a voice writes no text, and its file of speakers is a pickle.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **_OURS)
    thinker = getattr(config, "thinker_config", None)
    return _auto_class(config) if thinker is None else _auto_class(thinker)._model_mapping[type(thinker)]


def _auto_class(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM):
        if type(config) in auto._model_mapping:
            return auto
    raise ValueError(f"{type(config).__name__} is of no model that writes text")


def folder_digest(folder: Path) -> str:
    """A hash of a model's or adapter's weights and config: 16 hexadecimal digits."""
    files = sorted(
        p for p in folder.iterdir() if p.suffix == ".safetensors" or p.name in ("config.json", "adapter_config.json")
    )
    status = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _digest(status)


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in files:
        digest.update(Path(name).name.encode())
        with open(name, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]
