"""Time-aware models on disk: what was learned as safetensors, the names of the frozen models, and their processor.

The folder of such a model can be a role's: engine ``time_aware`` runs it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.models.load import folder_digest, load_vlm, model_folder
from flywheel.models.time_aware._model import Sizes, TimeAware
from flywheel.models.time_aware._perceived import Encoders

CARD, WEIGHTS = "config.json", "time_aware.safetensors"
MODEL_TYPE = "flywheel_time_aware"
#: The frozen models of the CPU-size configuration, by what they do.
PARTS: Mapping[str, str] = {"vision": "bundled-eyes", "audio": "bundled-ears", "language": "bundled-eyes"}


def new_model(parts: Mapping[str, str] = PARTS, **sizes: Any) -> tuple[Encoders, TimeAware]:
    """The encoders of these models, and a model on top of them that has learned nothing yet.

    ``sizes`` as :class:`Sizes`, its widths left out. Raises UserError for a folder that is no such model.
    """
    folders = {name: model_folder(parts[name], Path()) for name in PARTS}
    encoders = Encoders(folders["vision"], folders["audio"])
    language = load_vlm(folders["language"], precision="fp32", on_cpu=True)
    of_encoders = Sizes(seen_width=encoders.seen_width, heard_width=encoders.heard_width, **sizes)
    return encoders, TimeAware(language, of_encoders).eval()


def save_model(model: TimeAware, folder: Path, parts: Mapping[str, str] = PARTS, **facts: Any) -> None:
    """Write what a model learned; ``facts`` about its training go into the card. The folder appears whole.

    The processor of the model that hears lies beside it, which says that frames and sound are taken.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    of_parts = {name: model_folder(parts[name], Path()) for name in PARTS}
    card = {
        "model_type": MODEL_TYPE,
        "parts": {name: {"folder": parts[name], "digest": folder_digest(of_parts[name])} for name in PARTS},
        "sizes": asdict(model.sizes),
        **facts,
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.learned().items()}
    with written_whole(folder) as place:
        place.mkdir()
        save_file(weights, place / WEIGHTS)
        (place / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        for file in sorted(of_parts["audio"].iterdir()):
            if file.suffix in (".json", ".jinja") and file.name not in (CARD, "generation_config.json"):
                shutil.copy(file, place / file.name)


def load_model(folder: Path) -> tuple[Encoders, TimeAware]:
    """The encoders and the model of a folder.

    Raises UserError where there is none, where a frozen model has other weights than those it was learned on, and where
    its own weights are not of its sizes.
    """
    card = read_card(folder)
    for name, part in card["parts"].items():
        if folder_digest(model_folder(part["folder"], folder)) != part["digest"]:
            raise UserError(f"{folder}: was learned on other weights of {part['folder']} ({name}). Train it anew.")
    sizes = {name: value for name, value in card["sizes"].items() if name not in ("seen_width", "heard_width")}
    encoders, model = new_model({name: part["folder"] for name, part in card["parts"].items()}, **sizes)
    try:
        weights = load_file(folder / WEIGHTS)
        if weights.keys() != model.learned().keys():
            raise ValueError("other parameters")
        model.load_state_dict(weights, strict=False)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{folder}: holds no whole time-aware model ({type(error).__name__}). Train it anew."
        ) from error
    return encoders, model.eval()


def read_card(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says. Raises UserError where it is not there, or is of another kind of model."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if (
            card["model_type"] == MODEL_TYPE
            and isinstance(card["sizes"], dict)
            and card["parts"].keys() == PARTS.keys()
        ):
            return dict(card)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{folder}: is no time-aware model: it needs {CARD} and {WEIGHTS}.")
