"""Models by their id on a hub (``org/name``): where a download lies on this machine, and the download itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from flywheel.core.errors import BorderError, UserError

#: Two names with a slash between them, as hubs have them; paths begin otherwise or have more parts.
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: What is fetched: weights without pickles, and what processor and tokenizer need.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
#: Writes the bytes that are fetched, or what came in the way; progress goes to stderr.
_CODE = """
import json, os, sys
from huggingface_hub import snapshot_download
try:
    found = snapshot_download(**json.loads(sys.argv[1]))
    size = sum(file.file_size for file in found if file.will_download) if isinstance(found, list) else 0
    os.write(1, str(size).encode())
except Exception as error:
    os.write(1, f"{type(error).__name__}: {str(error).strip()[:300]}".partition("\\n")[0].encode())
    sys.exit(1)
"""
#: Code of the error of a model that is on no disk here.
NOT_HERE = "not_downloaded"


def is_hub_id(name: str) -> bool:
    """Whether a name may be a model's id on a hub: ``org/name``."""
    return _ID.fullmatch(name) is not None and not name.endswith((".yaml", ".json", ".safetensors"))


def downloaded(hub_id: str) -> Path | None:
    """The folder of a model that was downloaded whole, in the machine's cache; None where there is none."""
    # Here: a library that takes .4 s, for those who name an id.
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = repository / "snapshots" / commit
    return folder if _is_whole(folder) else None


def hub_id_of(folder: Path) -> str:
    """The id of a model in the machine's cache; empty for another folder."""
    parts = folder.parts
    names = [part.removeprefix("models--") for part in parts[:-2] if part.startswith("models--")]
    return names[-1].replace("--", "/", 1) if names and "snapshots" in parts else ""


def not_here(name: str, root: Path) -> UserError:
    """The error for a name that is neither a folder nor a downloaded model, with the ways on."""
    return UserError(
        f"{name}: no such model folder ({root / name}), and no model of this id was downloaded. Where there is a "
        f"network: flywheel download, or hf download {name}. Else copy the model's folder here and name that in "
        "models.main.folder.",
        code=NOT_HERE,
    )


def bytes_to_fetch(hub_id: str) -> int:
    """How many bytes a download would fetch now. Raises BorderError where the hub can't be asked."""
    return int(_hub(hub_id, dry_run=True))


def download(hub_id: str) -> Path:
    """Fetch a model into the machine's cache; returns its folder.

    Safetensors and texts alone: no pickles, no code. Progress goes to stderr. Raises BorderError where it can't be had.
    """
    _hub(hub_id)
    if (folder := downloaded(hub_id)) is None:
        raise BorderError(f"{hub_id}: holds no whole model: config.json and weights as safetensors. Name another one.")
    return folder


def _hub(hub_id: str, **more: bool) -> str:
    """What the hub's library prints, in a process of its own: in this one it was told to stay offline."""
    arguments = json.dumps({"repo_id": hub_id, "allow_patterns": _PATTERNS, **more})
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    if more:
        environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    made = subprocess.run(
        [sys.executable, "-c", _CODE, arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if made.returncode:
        why = made.stdout.strip() or f"exit {made.returncode}"
        raise BorderError(f"{hub_id}: can't be downloaded ({why}). {_way_on(hub_id, why)}")
    return made.stdout.strip()


def _is_whole(folder: Path) -> bool:
    """Whether a model's configuration and all of its weights are there."""
    if not (folder / "config.json").exists():
        return False
    index = folder / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return any(folder.glob("*.safetensors")) if names is None else all((folder / str(name)).exists() for name in names)


def by_hand(hub_id: str) -> str:
    """How to get a model without this program."""
    return f"hf download {hub_id} --local-dir FOLDER; then name FOLDER in models.main.folder"


def _way_on(hub_id: str, why: str) -> str:
    if "GatedRepo" in why or "401" in why:
        return "Accept its licence on its page, put your token into HF_TOKEN, and run the same command."
    if "RepositoryNotFound" in why or "404" in why:
        return "Look its id up on the hub; a private model needs a token in HF_TOKEN."
    return (
        f"On a machine with a network: hf download {hub_id} --local-dir FOLDER; then name FOLDER in models.main.folder."
    )
