"""What an encoder's folder says of it, for who needs no weights: its card and the id of its weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError

CARD, WEIGHTS = "encoder.json", "encoder.safetensors"
#: Hex digits of an encoder's id.
_DIGITS = 16


def read_card(folder: Path) -> dict[str, Any]:
    """What ``encoder.json`` says. Raises UserError where it is not there, or says nothing of the kind."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if isinstance(card["encoder"], str) and isinstance(card["sizes"], dict):
            return dict(card)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{folder}: is no encoder: it needs {CARD} and {WEIGHTS}, as 'flywheel index' writes them.")


def encoder_id(folder: Path) -> str:
    """The first digits of a hash of an encoder's weights, by which its vectors are kept.

    Raises UserError where there are none.
    """
    try:
        with open(folder / WEIGHTS, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError as error:
        raise UserError(f"{folder}: holds no {WEIGHTS} ({error.strerror}).") from error
