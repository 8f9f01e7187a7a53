"""Models' folders as encoders: CLIP-like, CLAP-like and PE-AV, whatever of the kind transformers loads."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError, first_line
from flywheel.models.towers._features import FeatureTowers
from flywheel.models.towers._inputs import LOCAL
from flywheel.models.towers._interface import Towers
from flywheel.models.towers._perception import PERCEPTION, PerceptionTowers
from flywheel.models.towers.embedder import FolderEmbedder

__all__ = ["FolderEmbedder", "load_towers"]

_CHOOSE = "Name a CLIP-like, CLAP-like or PE-AV model's folder in index.folder."


def load_towers(folder: Path) -> FolderEmbedder:
    """The encoder that a model's folder is; on the accelerator where there is one.

    Raises UserError for a model without a text tower, or nothing to compare texts with, for a folder without weights as
    safetensors or without what makes the inputs, and where transformers can't load it.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig
    from transformers.utils import logging

    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: has no weights (*.safetensors). {_CHOOSE}")
    logging.disable_progress_bar()
    failures = (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, SafetensorError)
    try:
        # Some models' classes print what concerns their authors.
        with contextlib.redirect_stdout(io.StringIO()):
            config = AutoConfig.from_pretrained(folder, **LOCAL)
            towers = _towers(folder, config)
    except failures as error:
        raise UserError(f"{folder}: can't be loaded as an encoder ({first_line(error)}). {_CHOOSE}") from error
    towers.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    try:
        return FolderEmbedder(towers, str(config.model_type))
    except failures as error:
        raise UserError(f"{folder}: its towers make no vectors ({first_line(error)}). {_CHOOSE}") from error


def _towers(folder: Path, config: Any) -> Towers:
    """The towers of a folder with this config. Raises UserError where there are none to compare."""
    from transformers import AutoModel

    kind = str(config.model_type)
    family: type[Towers] = PerceptionTowers if kind in PERCEPTION else FeatureTowers
    model_class = AutoModel._model_mapping.get(type(config), None)
    model_class = model_class[0] if isinstance(model_class, tuple | list) else model_class
    if model_class is None or (lacking := family.lacking(model_class)):
        lacking = lacking if model_class is not None else "towers"
        raise UserError(f"{folder}: is a {kind} model, which has no {lacking} that vectors are made by. {_CHOOSE}")
    model, missing = family.load(model_class, folder)
    if missing:
        raise UserError(f"{folder}: weights are missing, for instance {min(missing)}. The folder is incomplete.")
    return family(model, folder)
