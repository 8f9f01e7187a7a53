"""What an encoder's folder says of it, for who needs no weights: its card and the id of its weights.

A folder is one that ``flywheel index`` wrote, or a model's as transformers keeps it (``config.json`` and safetensors).
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError

CARD, WEIGHTS, CONFIG = "encoder.json", "encoder.safetensors", "config.json"
#: Hex digits of an encoder's id.
_DIGITS = 16
#: What of a model's folder decides on its vectors: weights, and what inputs are made by.
_OF_A_MODEL = (".safetensors", ".json", ".txt", ".model")
#: Changes with how a model's folder is used: which frames it sees, how their vectors become one.
_USE = b"1"
_CHUNK = 1 << 22


def is_model_folder(folder: Path) -> bool:
    """Whether a folder is a model's as transformers keeps it, and none that ``flywheel index`` wrote."""
    return not (folder / CARD).exists() and not (folder / WEIGHTS).exists() and (folder / CONFIG).is_file()


def read_card(folder: Path) -> dict[str, Any]:
    """What ``encoder.json`` says. Raises UserError where it is not there, or says nothing of the kind."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if isinstance(card["encoder"], str) and isinstance(card["sizes"], dict):
            return dict(card)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{folder}: is no encoder: it needs {CARD} and {WEIGHTS}, as 'flywheel index' writes them, or a model's "
        f"{CONFIG} and safetensors."
    )


def knows_texts(folder: Path) -> bool:
    """Whether a text can be asked for, without a look at weights: models' folders without a text tower are refused.

    Raises UserError as :func:`read_card` does.
    """
    return is_model_folder(folder) or "text" in read_card(folder).get("modalities", ())


def encoder_id(folder: Path) -> str:
    """The first digits of a hash of an encoder's weights, by which its vectors are kept.

    Of a model's folder it is of all that makes its vectors. Raises UserError where there are none.
    """
    files = [folder / WEIGHTS]
    if is_model_folder(folder):
        files = sorted(path for path in folder.iterdir() if path.suffix in _OF_A_MODEL and path.is_file())
    try:
        status = [(str(path), file.st_size, file.st_mtime_ns) for path in files for file in [path.stat()]]
        return _digest(tuple(status), is_model_folder(folder))
    except OSError as error:
        raise UserError(f"{folder}: holds no {WEIGHTS} ({error.strerror}).") from error


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[str, int, int], ...], named: bool) -> str:
    """The id of these files' content; with ``named`` also of their names, and of how they are used."""
    digest = hashlib.sha256(_USE if named else b"")
    for name, size, _ in files:
        if named:
            digest.update(f"\n{Path(name).name} {size}\n".encode())
        with open(name, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:_DIGITS]
