"""The recogniser's folder: a Whisper model as CTranslate2 has it. Looked at before any heavy library is imported."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.core.foreign import parsed_json

_CHUNK = 1 << 22
_LIBRARY = "faster_whisper"
_CONVERT = (
    "Convert it: ct2-transformers-converter --model FOLDER --output_dir NEW "
    "--copy_files tokenizer.json preprocessor_config.json"
)


def recogniser_folder(name: str, root: Path, key: str = "transcribe.model") -> Path:
    """The folder that ``transcribe.model``, or another ``key``, names, relative ones from the workspace.

    Raises UserError where there is none, where it holds another kind of model, and without the extra that runs it.
    """
    if not name:
        raise UserError(
            f"{key}: names no folder. Set it to a Whisper model for CTranslate2 (docs/config.md says how to get one)."
        )
    path = Path(name).expanduser()
    path = path if path.is_absolute() else root / path
    if not path.is_dir():
        raise UserError(f"{path}: no such folder. Set {key} to the folder of a Whisper model.")
    _check_kind(path)
    if importlib.util.find_spec(_LIBRARY) is None:
        raise UserError(f"{key.split('.')[0]}: faster-whisper is not installed. pip install 'video-dataflywheel[asr]'")
    return path


def source_of(folder: Path) -> str:
    """What texts of this model have as their source: ``asr:`` and 16 digits of its files' hash."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.bin", "tokenizer.json"):
        digest.update(name.encode())
        with open(folder / name, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return f"asr:{digest.hexdigest()[:16]}"


def _check_kind(folder: Path) -> None:
    """Raises UserError for what is no folder of a Whisper model for CTranslate2, with what to do."""
    weights = folder / "model.bin"
    if not weights.is_file():
        if any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
            raise UserError(f"{folder}: is {_family(folder)} for transformers, not for CTranslate2. {_CONVERT}")
        raise UserError(f"{folder}: has no model.bin, so it is no model for CTranslate2. {_CONVERT}")
    with open(weights, "rb") as file:
        # Version (4 bytes), length of a name (2 bytes), the name.
        head = file.read(64)
    name = head[6 : 6 + int.from_bytes(head[4:6], "little")].rstrip(b"\0")
    if name != b"WhisperSpec":
        what = name.decode("ascii", "replace") if name.isalnum() else "of no kind that CTranslate2 names"
        raise UserError(f"{weights}: is {what}, and not a Whisper model.")
    for other in ("config.json", "tokenizer.json"):
        if not (folder / other).is_file():
            raise UserError(f"{folder}: has no {other}. Copy it from the model that it was converted from.")


def _family(folder: Path) -> str:
    try:
        config = parsed_json((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        config = {}
    kind = config.get("model_type") if isinstance(config, dict) else None
    return f"a model of type {json.dumps(kind)}" if isinstance(kind, str) else "a model"
