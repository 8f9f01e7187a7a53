"""Encoders on disk: a folder with ``encoder.json`` (name and sizes) and ``encoder.safetensors``, or a model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flywheel.core.encoder_folder import CARD, WEIGHTS, encoder_id, is_model_folder, read_card
from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.models import encoders
from flywheel.models.encoders import Embedder, Encoder

__all__ = ["CARD", "WEIGHTS", "encoder_id", "encoder_width", "load_encoder", "read_card", "save_encoder"]


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


def load_encoder(folder: Path) -> Embedder:
    """The encoder of a folder. Raises UserError where there is none, or its weights are not of its sizes."""
    if is_model_folder(folder):
        # Here: transformers takes seconds.
        from flywheel.models.towers import load_towers

        return load_towers(folder)
    card = read_card(folder)
    try:
        encoder = encoders.build(card["encoder"], **card["sizes"])
        encoder.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: holds no whole encoder ({type(error).__name__}). Train it anew.") from error
    encoder.eval()
    return encoder


def encoder_width(folder: Path) -> int:
    """The width of an encoder's vectors, without its weights where its card says it. Raises as :func:`load_encoder`."""
    width = None if is_model_folder(folder) else read_card(folder).get("width")
    return width if isinstance(width, int) else load_encoder(folder).width
