"""Encoders on disk: a folder with ``encoder.json`` (name and sizes) and ``encoder.safetensors``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.models import encoders
from flywheel.models.encoders import Encoder

CARD, WEIGHTS = "encoder.json", "encoder.safetensors"
#: Hex digits of an encoder's id.
_DIGITS = 16


def save_encoder(encoder: Encoder, folder: Path, **facts: Any) -> None:
    """Write an encoder; ``facts`` about its training go into the card. A folder that holds one gets this one whole."""
    name, sizes = encoder.built_from
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    card = {"encoder": name, "sizes": sizes, "width": encoder.width, "modalities": encoder.modalities, **facts}
    with written_whole(folder) as place:
        place.mkdir()
        # The id is of the weights: a card that is one writing behind names the same shapes.
        save_file(weights, place / WEIGHTS)
        (place / CARD).write_text(json.dumps(card, indent=2) + "\n")


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a folder. Raises UserError where there is none, or its weights are not of its sizes."""
    card = read_card(folder)
    try:
        encoder = encoders.build(card["encoder"], **card["sizes"])
        encoder.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: holds no whole encoder ({type(error).__name__}). Train it anew.") from error
    encoder.eval()
    return encoder


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
